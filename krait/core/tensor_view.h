// A tensor that somebody else owns: element type, shape (row-major, last dimension contiguous) and bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krait/core/dtype.h"

namespace krait {
inline namespace core {

using Shape = std::vector<std::int64_t>;

// Product of the dimensions (1 for a scalar); nothing when one is negative or the product overflows.
std::optional<std::int64_t> element_count(std::span<const std::int64_t> shape);

// "[24, 768]"
std::string to_string(std::span<const std::int64_t> shape);

struct TensorView {
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> bytes;  // may be unaligned: it can point into a mapped file
};

}  // namespace core
}  // namespace krait
