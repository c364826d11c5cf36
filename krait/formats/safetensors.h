// Reader of safetensors files (github.com/huggingface/safetensors, README "Format"): 8 bytes little-endian length of
// the header, the header in JSON, the data. Krait is as strict as the reference: tensors fill the data without holes
// or overlaps, a header is at most 100 MB, every tensor has exactly the bytes that its shape and dtype ask for.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/config.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

inline constexpr std::uint64_t kSafetensorsMaximumHeader = 100'000'000;

// `config` is what the source answers as its configuration: the format itself carries none.
Result<std::unique_ptr<WeightSource>> open_safetensors(const std::filesystem::path& path, Config config);
// Same from memory, for tests and fuzzing; `file` must outlive the source.
Result<std::unique_ptr<WeightSource>> parse_safetensors(std::span<const std::byte> file, const std::string& origin,
                                                        Config config = Config());

// The texts of "__metadata__"; none where a file has no such entry.
Result<std::map<std::string, std::string>> parse_safetensors_metadata(std::span<const std::byte> file,
                                                                      const std::string& origin);

// "F32" and so on; empty for block types, which the format does not know.
std::string_view safetensors_dtype_name(DType dtype);
std::optional<DType> parse_safetensors_dtype(std::string_view name);

}  // namespace krait::formats
