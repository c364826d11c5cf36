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

namespace {

std::uint64_t aligned(std::uint64_t bytes) {
  constexpr std::uint64_t kAlignment = AlignedBuffer::kAlignment;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// A row for every token that so many pages hold.
Shape kv_rows(const kernels::KvShape& shape, std::int64_t pages) {
  return {pages * kernels::kKvPageTokens, shape.key_heads * shape.key_width + shape.value_heads * shape.value_width};
}

}  // namespace

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
  tensors_.push_back({std::move(name), std::move(shape), dtype, kind, *bytes, offset, false, {}});
  bytes_ += aligned(*bytes);
  return offset;
}

std::uint64_t StateLayout::add_paged(std::string name, const kernels::KvShape& shape) {
  const std::uint64_t offset = page_bytes_;
  const auto bytes = static_cast<std::uint64_t>(shape.page_bytes());
  tensors_.push_back({std::move(name), kv_rows(shape, 1), shape.dtype, StateKind::kKv, bytes, offset, true, shape});
  page_bytes_ += aligned(bytes);
  return offset;
}

std::uint64_t StateLayout::add_bundled(std::string name, const kernels::KvShape& shape, std::int64_t pages) {
  const std::uint64_t offset = bytes_;
  const auto bytes = static_cast<std::uint64_t>(pages * shape.page_bytes());
  tensors_.push_back(
      {std::move(name), kv_rows(shape, pages), shape.dtype, StateKind::kKv, bytes, offset, false, shape});
  bytes_ += aligned(bytes);
  return offset;
}

std::uint64_t StateLayout::add_ring(std::string name, const kernels::KvShape& shape, std::int64_t window) {
  return add_bundled(std::move(name), shape, kernels::kv_ring_pages(window));
}

}  // namespace krait::models
