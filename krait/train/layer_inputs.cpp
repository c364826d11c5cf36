#include "krait/train/layer_inputs.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "krait/train/optimiser_state.h"

namespace krait::train {
namespace {

std::span<std::byte> need(Result<std::span<std::byte>> bytes) {
  if (!bytes) throw UserError(bytes.error().message, "[memory] folder says where the file is");
  return *bytes;
}

}  // namespace

Result<LayerInputFile> LayerInputFile::reserve(OffloadFile& file, std::int64_t layers, std::int64_t rows,
                                               std::int64_t width) {
  LayerInputFile inputs(file);
  inputs.most_rows_ = rows;
  inputs.width_ = width;
  const auto bytes = static_cast<std::uint64_t>(rows * width) * sizeof(float);
  for (std::int64_t i = 1; i < layers; ++i) {
    KRAIT_ASSIGN(const OffloadFile::Slot residual, file.reserve(fmt::format("residual of layer {}", i), bytes));
    KRAIT_ASSIGN(const OffloadFile::Slot delta, file.reserve(fmt::format("delta of layer {}", i), bytes));
    inputs.slots_.push_back({residual, delta});
  }
  return inputs;
}

void LayerInputFile::put(std::int64_t layer, const nn::LayerStream& stream) {
  rows_ = stream.residual.size(0);
  if (rows_ > most_rows_) {
    throw UserError(fmt::format("a batch of {} rows in a run that was to have at most {}", rows_, most_rows_),
                    "activations in a file need batches of one size");
  }
  const Pair& pair = slots_[static_cast<std::size_t>(layer - 1)];
  for (std::size_t i = 0; i < pair.size(); ++i) {
    const at::Tensor values = (i == 0 ? stream.residual : stream.delta).contiguous();
    const auto from = std::as_bytes(std::span<const float>(values_of(values)));
    const std::span<std::byte> to = need(file_->acquire(pair[i], OffloadFile::Content::kOverwritten));
    std::ranges::copy(from, to.begin());
    std::ranges::fill(to.subspan(from.size()), std::byte{0});
    std::ignore = file_->release(pair[i], true);
  }
}

nn::LayerStream LayerInputFile::get(std::int64_t layer) {
  const auto index = static_cast<std::size_t>(layer - 1);
  if (index > 0) {
    for (const OffloadFile::Slot slot : slots_[index - 1]) file_->prefetch(slot);
  }
  const auto tensor = [&](OffloadFile::Slot slot) {
    return at::from_blob(need(file_->acquire(slot)).data(), {rows_, width_}, at::kFloat);
  };
  const Pair& pair = slots_[index];
  return {tensor(pair[0]), tensor(pair[1])};
}

void LayerInputFile::drop(std::int64_t layer) {
  for (const OffloadFile::Slot slot : slots_[static_cast<std::size_t>(layer - 1)]) {
    std::ignore = file_->release(slot, false);
  }
}

}  // namespace krait::train
