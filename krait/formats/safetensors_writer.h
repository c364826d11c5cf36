// Writes safetensors files. The file appears under its name only when it is complete.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

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

// Where the bytes of such a file stand, for those who write them in a way of their own. `origin` stands in messages.
struct SafetensorsLayout {
  std::string header;                  // the file's first bytes: length and header
  std::vector<std::size_t> order;      // which tensor follows which
  std::vector<std::uint64_t> offsets;  // of each tensor, in the order given, from the beginning of the file
  std::uint64_t bytes = 0;             // of the whole file
};
Result<SafetensorsLayout> lay_out_safetensors(std::span<const TensorInfo> tensors,
                                              const std::map<std::string, std::string>& metadata,
                                              const std::string& origin);

}  // namespace krait::formats
