// A recurrent state as a kernel stores it (krait/kernels/state_storage.h), encoded and decoded here from the layout's
// description alone, and how far storing may move a value.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/dtype.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

inline const std::vector<DType> kStateDTypes = {DType::kF32, DType::kBF16, DType::kI8};

class StoredState {
 public:
  // [rows, width], zero.
  StoredState(DType dtype, std::int64_t rows, std::int64_t width)
      : dtype_(dtype), rows_(rows), width_(width), blocks_((width + 63) / 64), floats_(1, float_count()) {
    std::memset(floats_.data(), 0, static_cast<std::size_t>(float_count()) * 4);
  }
  // The nearest that can be stored; the matrix becomes what was stored.
  StoredState(DType dtype, Matrix& values) : StoredState(dtype, values.rows(), values.columns()) {
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t b = 0; b < blocks_; ++b) {
        const std::int64_t first = b * 64, last = std::min(width_, first + 64);
        float largest = 0.0F;
        for (std::int64_t i = first; i < last; ++i) largest = std::max(largest, std::fabs(values.at(r, i)));
        const float scale = largest / 127.0F;
        if (dtype_ == DType::kI8) write(scales_offset() + (r * blocks_ + b) * 4, scale);
        for (std::int64_t i = first; i < last; ++i) {
          const std::int64_t at = r * width_ + i;
          const float v = values.at(r, i);
          if (dtype_ == DType::kF32) write(at * 4, v);
          if (dtype_ == DType::kBF16) write(at * 2, f32_to_bf16(v));
          if (dtype_ == DType::kI8) write(at, static_cast<std::int8_t>(std::lrint(scale > 0 ? v / scale : 0.0F)));
        }
      }
    }
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t i = 0; i < width_; ++i) values.at(r, i) = static_cast<float>(at(r, i));
    }
  }

  double at(std::int64_t r, std::int64_t i) const {
    const std::int64_t at = r * width_ + i;
    if (dtype_ == DType::kF32) return read<float>(at * 4);
    if (dtype_ == DType::kBF16) return bf16_to_f32(read<std::uint16_t>(at * 2));
    return double{read<float>(scales_offset() + (r * blocks_ + i / 64) * 4)} * read<std::int8_t>(at);
  }

  // How far storing moves value i of a row of magnitudes (index -> |value|): less than the distance of the two
  // numbers beside it. bf16 has 8 bits; a block of int8 has steps of its largest value / 127, which is itself
  // rounded, as is its inverse.
  template <class Magnitude>
  double storing_error(std::int64_t i, Magnitude&& magnitude) const {
    if (dtype_ == DType::kF32) return 0.0;
    if (dtype_ == DType::kBF16) return 0x1p-7 * magnitude(i);
    double largest = 0.0;
    for (std::int64_t j = i / 64 * 64; j < std::min(width_, i / 64 * 64 + 64); ++j) {
      largest = std::max(largest, magnitude(j));
    }
    return largest / 127.0 * (1.0 + 128.0 * 0x1p-22) + 0x1p-100;
  }

  std::byte* bytes() { return floats_.bytes(); }
  const Matrix& as_floats() const { return floats_; }  // the bytes, for comparing bits
  std::int64_t rows() const { return rows_; }
  std::int64_t width() const { return width_; }

 private:
  std::int64_t scales_offset() const { return (rows_ * width_ + 63) / 64 * 64; }
  std::int64_t float_count() const {
    if (dtype_ == DType::kF32) return rows_ * width_;
    if (dtype_ == DType::kBF16) return (rows_ * width_ + 1) / 2;
    return scales_offset() / 4 + rows_ * blocks_;
  }
  template <class T>
  void write(std::int64_t byte, T value) {
    std::memcpy(floats_.bytes() + byte, &value, sizeof(value));
  }
  template <class T>
  T read(std::int64_t byte) const {
    T value;
    std::memcpy(&value, reinterpret_cast<const std::byte*>(floats_.data()) + byte, sizeof(value));
    return value;
  }

  DType dtype_;
  std::int64_t rows_, width_, blocks_;
  Matrix floats_;
};

}  // namespace krait::tests
