// How activations are handed to kernels: a matrix of float rows, row-major, with a stride between rows (in
// elements), so that a kernel can read or write a slice of the columns of a wider matrix in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace krait::kernels {

template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t stride = 0;

  Rows() = default;
  Rows(T* first, std::int64_t row_count, std::int64_t column_count)
      : Rows(first, row_count, column_count, column_count) {}
  Rows(T* first, std::int64_t row_count, std::int64_t column_count, std::int64_t row_stride)
      : data(first), rows(row_count), columns(column_count), stride(row_stride) {}
  // A mutable matrix can be read.
  operator Rows<const T>() const { return {data, rows, columns, stride}; }

  T* row(std::int64_t index) const { return data + index * stride; }
  Rows slice_columns(std::int64_t begin, std::int64_t count) const { return {data + begin, rows, count, stride}; }
  Rows slice_rows(std::int64_t begin, std::int64_t count) const { return {row(begin), count, columns, stride}; }
  bool empty() const { return data == nullptr; }
};

using RowsIn = Rows<const float>;
using RowsOut = Rows<float>;

// One sequence's share of a batch: its rows in every activation matrix of a call, and where its state stands.
// What `state` holds is said by the kernel that takes it; aligned to 4 bytes at least. Sequences of one call never
// overlap.
struct SequenceRows {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;  // may be 0: the state is left alone
  std::byte* state = nullptr;

  // For states that are always f32.
  float* state_f32() const { return reinterpret_cast<float*>(state); }
};

}  // namespace krait::kernels
