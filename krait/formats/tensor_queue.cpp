#include "krait/formats/tensor_queue.h"

#include <utility>

#include "krait/core/check.h"

namespace krait::formats {

TensorQueue::TensorQueue(std::span<const NamedTensor> tensors) : given_(tensors) {
  for (const auto& [name, view] : tensors) tensors_.push_back({name, view.dtype, view.shape, view.bytes.size()});
}

TensorQueue::TensorQueue(const WeightSource& source, WriteProgress progress)
    : tensors_(source.tensors().begin(), source.tensors().end()), source_(&source), progress_(std::move(progress)) {
  for (const TensorInfo& tensor : tensors_) total_ += tensor.bytes;
}

Result<void> TensorQueue::write(std::size_t index, AtomicFile& file) {
  const TensorInfo& tensor = tensors_[index];
  if (source_ == nullptr) {
    const std::span<const std::byte> bytes = given_[index].view.bytes;
    file.write(bytes.data(), bytes.size());
    return {};
  }
  if (progress_ && !progress_(done_, total_)) {
    return fail(ErrorCode::kCancelled, "[weights] stopped before tensor {} ({})", tensor.name, source_->origin());
  }
  KRAIT_ASSIGN(const TensorView view, source_->view(tensor.name));
  KRAIT_CHECK_EQ(view.bytes.size(), tensor.bytes);
  file.write(view.bytes.data(), view.bytes.size());
  source_->release(tensor.name);
  done_ += tensor.bytes;
  return {};
}

}  // namespace krait::formats
