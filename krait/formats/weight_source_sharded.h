// Checkpoints cut into several files, with an index in JSON: {"weight_map": {tensor name: file name}}. The same for
// safetensors and for PyTorch files.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "krait/formats/weight_source.h"

namespace krait::formats {

// Tensor name to file name. Every file name is a plain name within the directory of the index: one with a path in
// it, which could reach outside, is refused (kCorrupt).
Result<std::map<std::string, std::string>> parse_shard_index(std::string_view text, const std::string& origin);

using ShardOpener = std::function<Result<std::unique_ptr<WeightSource>>(const std::filesystem::path&)>;

// Opens every shard once. The tensors are those of the index; others that stand in a shard are left out.
Result<std::unique_ptr<WeightSource>> open_sharded(const std::filesystem::path& index, Config config,
                                                   const ShardOpener& open_shard);

}  // namespace krait::formats
