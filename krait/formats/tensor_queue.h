// Tensors on their way into a file: all are described before the first byte is written, and each one's bytes are asked
// for when its turn comes and given back when it is written. So a file may be larger than memory.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "krait/formats/atomic_file.h"
#include "krait/formats/named_tensor.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

// How far the writing has come, in bytes of tensors. Returns whether to go on.
using WriteProgress = std::function<bool(std::uint64_t done, std::uint64_t total)>;

class TensorQueue {
 public:
  // The bytes are there already, in the order given; doubled names are the writer's to find.
  explicit TensorQueue(std::span<const NamedTensor> tensors);
  // All tensors of a source, by name.
  explicit TensorQueue(const WeightSource& source, WriteProgress progress = {});

  std::span<const TensorInfo> tensors() const { return tensors_; }
  // Writes the bytes of one. kCancelled when the progress says so; the errors of the source.
  Result<void> write(std::size_t index, AtomicFile& file);

 private:
  std::vector<TensorInfo> tensors_;
  std::span<const NamedTensor> given_;
  const WeightSource* source_ = nullptr;
  WriteProgress progress_;
  std::uint64_t total_ = 0, done_ = 0;
};

}  // namespace krait::formats
