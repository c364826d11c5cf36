// A weight matrix of a checkpoint on its way into panels: as it is stored, as f32, or rounded to fewer bits.
//
// Besides the plain and block types of any checkpoint this knows krait's own low-bit safetensors, which `krait
// quantize` writes (docs/formats.md): "quantization_config": {"quant_method": "krait", "weights": FORMAT} in
// config.json, and for every matrix X [N, K]
//   X        I8 [N, K] (int8 formats), or U8 [N, ceil(K/2)]: column 2j in the low half of byte j, 2j+1 in the high one
//   X.scale  F32 [N] (int8), else F16 [N, ceil(K / group)]
//   X.zero   U8 [N, ceil(K / group)] (formats with zero points)
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/thread_pool.h"
#include "krait/formats/weight_source.h"
#include "krait/kernels/low_bit_row.h"
#include "krait/kernels/panels.h"

namespace krait::models {

// The format that a configuration says its matrices have; nothing when it is not one of krait's own low-bit files.
Result<std::optional<kernels::PanelFormat>> stored_low_bit_format(const formats::Config& config);

// Which rows of a tensor [all, columns] make up a matrix: all of them, a slice (one expert of a stack), or a list.
struct MatrixRows {
  std::int64_t all = 0;             // of the tensor, its leading dimensions multiplied; 0: those of the matrix
  std::int64_t first = 0;           // of a slice
  std::vector<std::int64_t> order;  // row i of the matrix is row order[i] of the tensor; empty: first + i
};

class StoredMatrix {
 public:
  // `low_bit` is what stored_low_bit_format() says. Errors name the tensor; `source` must outlive the matrix.
  static Result<StoredMatrix> find(const formats::WeightSource& source, const std::string& name, std::int64_t rows,
                                   std::int64_t columns, std::optional<kernels::PanelFormat> low_bit,
                                   MatrixRows part = {});

  // What it is packed to when nothing else is asked for: without loss, except that f64 and 8-bit floats become f32.
  kernels::PanelFormat format() const { return format_; }
  DType dtype() const { return info_->dtype; }

  // Fills panels (panel_shape() of `wanted` and this matrix, aligned to 64).
  Result<void> pack(ThreadPool& pool, kernels::PanelFormat wanted, std::byte* panels) const;
  // Gives the file's pages back to the system.
  void release() const;

 private:
  std::int64_t tensor_row(std::int64_t row) const {
    return part_.order.empty() ? part_.first + row : part_.order[static_cast<std::size_t>(row)];
  }
  Result<void> read_floats(std::int64_t first, std::int64_t count, float* out) const;
  void read_codes(std::int64_t row, kernels::LowBitRow& out) const;
  Result<void> pack_panel(std::int64_t panel, kernels::PanelFormat wanted, std::byte* to) const;

  const formats::WeightSource* source_ = nullptr;
  const formats::TensorInfo* info_ = nullptr;
  std::int64_t rows_ = 0, columns_ = 0;
  MatrixRows part_;
  kernels::PanelFormat format_ = kernels::PanelFormat::kF32;
  bool own_ = false;                           // krait's own low-bit layout
  std::span<const std::byte> bytes_;           // of low-bit formats
  std::span<const std::byte> scales_, zeros_;  // of krait's own
};

}  // namespace krait::models
