// What goes into each layer, in an offload file between forward and backward (layered_gradients.h).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "krait/train/layered_gradients.h"
#include "krait/train/offload_file.h"

namespace krait::train {

class LayerInputFile final : public LayerInputs {
 public:
  // A run's batches have at most `rows` rows of `width` numbers. The file must outlive it.
  static Result<LayerInputFile> reserve(OffloadFile& file, std::int64_t layers, std::int64_t rows, std::int64_t width);

  // UserError where the file cannot be read or written, or a batch is larger than was said.
  void put(std::int64_t layer, const nn::LayerStream& stream) override;
  nn::LayerStream get(std::int64_t layer) override;
  void drop(std::int64_t layer) override;

 private:
  explicit LayerInputFile(OffloadFile& file) : file_(&file) {}
  using Pair = std::array<OffloadFile::Slot, 2>;  // residual, delta

  OffloadFile* file_;
  std::vector<Pair> slots_;  // of layer 1 and those above
  std::int64_t most_rows_ = 0, rows_ = 0, width_ = 0;
};

}  // namespace krait::train
