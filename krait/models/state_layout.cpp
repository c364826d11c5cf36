#include "krait/models/state_layout.h"

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/state_storage.h"

namespace krait::models {

std::string_view to_string(StateKind kind) {
  switch (kind) {
    case StateKind::kRecurrent: return "recurrent";
    case StateKind::kConvWindow: return "conv_window";
    case StateKind::kKv: return "kv";
  }
  return "unknown";
}

std::uint64_t StateLayout::add(std::string name, Shape shape, DType dtype, StateKind kind) {
  const auto elements = element_count(shape);
  KRAIT_CHECK(elements.has_value(), "state tensor {} has shape {}", name, to_string(shape));
  auto bytes = bytes_for(dtype, *elements);
  KRAIT_CHECK(bytes.has_value(), "state tensor {} has {} elements of {}", name, *elements, to_string(dtype));
  if (dtype == DType::kI8 && *elements > 0) {
    const std::int64_t width = shape.back();
    bytes = static_cast<std::uint64_t>(kernels::state_bytes(dtype, *elements / width, width));
  }
  const std::uint64_t offset = bytes_;
  tensors_.push_back({std::move(name), std::move(shape), dtype, kind, *bytes, offset});
  constexpr std::uint64_t kAlignment = AlignedBuffer::kAlignment;
  bytes_ += (*bytes + kAlignment - 1) / kAlignment * kAlignment;
  return offset;
}

}  // namespace krait::models
