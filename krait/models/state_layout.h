// What a sequence's state consists of. A model publishes one layout; everything that stores, forks, moves or
// speculates on states works on bundles of `bytes()` bytes and never needs to know the model.
// A bundle of zero bytes is the state before the first token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/dtype.h"
#include "krait/core/tensor_view.h"

namespace krait::models {

enum class StateKind {
  kRecurrent,   // overwritten by every token
  kConvWindow,  // the last K-1 inputs of a causal convolution
  kKv,          // keys and values, one row a token
};
std::string_view to_string(StateKind kind);
using core::to_string;  // of shapes and dtypes, which the overload above would hide

struct StateTensor {
  std::string name;  // "layers.3.ssm"
  Shape shape;
  DType dtype = DType::kF32;  // i8: rows along the last dimension with scales, as kernels/state_storage.h has them
  StateKind kind = StateKind::kRecurrent;
  std::uint64_t bytes = 0;   // scales included
  std::uint64_t offset = 0;  // bytes from the start of the bundle, a multiple of 64
};

class StateLayout {
 public:
  // Appends a tensor and returns its offset in bytes.
  std::uint64_t add(std::string name, Shape shape, DType dtype, StateKind kind);

  std::span<const StateTensor> tensors() const { return tensors_; }
  std::uint64_t bytes() const { return bytes_; }  // a multiple of 64

 private:
  std::vector<StateTensor> tensors_;
  std::uint64_t bytes_ = 0;
};

}  // namespace krait::models
