// What stands where in the data file of a checkpoint, and where it comes from. The header is as long with checksums of
// zero as it will be with the right ones.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/train/checkpoint_state.h"

namespace krait::train {

struct CheckpointLayout {
  struct Source {
    std::span<const std::byte> bytes;  // of a tensor or a blob
    bool is_blob = false;
    PiecewiseTensor piecewise = {};  // where it can visit pieces, instead of `bytes`
  };

  // kInvalidArgument for states that make no file.
  static Result<CheckpointLayout> of(std::int64_t step, std::span<const StateProvider* const> providers);

  void set_checksum(std::size_t tensor, std::uint32_t crc32c);
  // The header anew, with the checksums that were set.
  const std::string& complete_header();

  std::vector<formats::TensorInfo> tensors;
  std::vector<Source> sources;  // of each tensor
  formats::SafetensorsLayout file;

 private:
  std::vector<std::vector<StateBlob>> blobs_;  // what sources point into
  std::map<std::string, std::string> metadata_;
};

}  // namespace krait::train
