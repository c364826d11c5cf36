// Writes safetensors files. The file appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "krait/core/error.h"
#include "krait/formats/tensor_queue.h"

namespace krait::formats {

// `metadata` goes into "__metadata__" (left out when empty). kInvalidArgument for a dtype that the format does not
// know, bytes that do not fit the shape, a doubled name or a name that is not UTF-8; kInputOutput from the disk.
// Tensors stand in the file by falling dtype size, then by name, behind a header padded to 8 bytes: each is aligned
// to its element.
Result<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                               const std::map<std::string, std::string>& metadata = {});
// All tensors of a source, each viewed when its turn comes and released after: the file may be larger than memory.
// kCancelled when `progress` says so.
Result<void> write_safetensors(const std::filesystem::path& path, const WeightSource& source,
                               const std::map<std::string, std::string>& metadata, WriteProgress progress = {});

}  // namespace krait::formats
