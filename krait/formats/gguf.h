// Reader of GGUF files, versions 2 and 3 (the container of llama.cpp): metadata and tensors.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "krait/core/error.h"
#include "krait/formats/config.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

// Metadata alone, parsed from the first bytes of a file: what the tokenizer needs.
Result<Config> parse_gguf_metadata(std::span<const std::byte> file, const std::string& origin);

Result<std::unique_ptr<WeightSource>> open_gguf(const std::filesystem::path& path);
// Same from memory, for tests and fuzzing; `file` must outlive the source.
Result<std::unique_ptr<WeightSource>> parse_gguf(std::span<const std::byte> file, const std::string& origin);

}  // namespace krait::formats
