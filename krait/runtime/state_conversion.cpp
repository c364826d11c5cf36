#include "krait/runtime/state_conversion.h"

#include <algorithm>

#include "krait/kernels/state_conversion.h"
#include "krait/kernels/state_storage.h"

namespace krait::runtime {
namespace {

using formats::StateSection;
using models::StateTensor;

// Bytes of the tensor in the dtype that the section has; 0 for a dtype that no state is kept in.
std::uint64_t bytes_in(const StateTensor& tensor, DType dtype, std::int64_t pages) {
  if (!kernels::is_state_dtype(dtype)) return 0;
  if (tensor.kind == models::StateKind::kKv) {
    kernels::KvShape shape = tensor.kv;
    shape.dtype = dtype;
    return static_cast<std::uint64_t>(shape.page_bytes() * pages);
  }
  const std::int64_t width = tensor.shape.empty() ? 0 : tensor.shape.back();
  const std::int64_t rows = width == 0 ? 0 : element_count(tensor.shape).value_or(0) / width;
  return static_cast<std::uint64_t>(kernels::state_bytes(dtype, rows, width));
}

// Pages of keys and values that a section of so many rows holds.
std::int64_t pages_of(const StateSection& section) {
  return section.shape.empty() ? 0 : section.shape.front() / models::StateLayout::kPageTokens;
}

Result<std::vector<std::byte>> converted(const formats::StateObject& object, const StateSection& section,
                                         std::span<const std::byte> content, const StateTensor& tensor) {
  const std::int64_t pages = pages_of(section);
  if (section.bytes != bytes_in(tensor, section.dtype, pages) || (!tensor.paged && section.shape != tensor.shape)) {
    return fail(ErrorCode::kInvalidArgument, "[state] \"{}\" is {} in {} bytes of {}, which the model's {} is not ({})",
                section.name, to_string(section.shape), section.bytes, to_string(section.dtype),
                to_string(tensor.shape), object.origin());
  }
  std::vector<std::byte> out(bytes_in(tensor, tensor.dtype, pages));
  if (tensor.kind != models::StateKind::kKv) {
    const std::int64_t width = tensor.shape.back();
    kernels::convert_state(section.dtype, content.data(), *element_count(tensor.shape) / width, width, tensor.dtype,
                           out.data());
    return out;
  }
  kernels::KvShape shape = tensor.kv;
  shape.dtype = section.dtype;
  const std::uint64_t to_bytes = out.size() / static_cast<std::uint64_t>(std::max<std::int64_t>(pages, 1));
  for (std::int64_t page = 0; page < pages; ++page) {
    kernels::convert_kv_page(shape, content.data() + page * shape.page_bytes(), tensor.dtype,
                             out.data() + static_cast<std::uint64_t>(page) * to_bytes);
  }
  return out;
}

}  // namespace

Result<void> convert_state_file(const formats::StateObject& object, const std::filesystem::path& out,
                                const StateConversion& conversion) {
  KRAIT_TRY(object.verify());
  const std::span<const StateTensor> tensors =
      conversion.layout == nullptr ? std::span<const StateTensor>() : conversion.layout->tensors();
  const auto unwanted = [&](const StateSection& section) {
    return (section.role == "tokens" && !conversion.keep_tokens) ||
           (section.role == "counts" && !conversion.keep_sampler) ||
           (section.role == "logits" && !conversion.keep_logits);
  };
  std::vector<std::vector<std::byte>> contents;
  std::vector<formats::StateSource> sources;
  std::size_t seen = 0;
  for (const StateSection& section : object.sections()) {
    if (unwanted(section)) continue;
    std::vector<std::byte> content(section.bytes);
    KRAIT_TRY(object.read(section, content));
    DType dtype = section.dtype;
    if (const auto tensor = std::ranges::find(tensors, section.name, &StateTensor::name); tensor != tensors.end()) {
      ++seen;
      if (tensor->dtype != section.dtype) {
        KRAIT_ASSIGN(content, converted(object, section, content, *tensor));
        dtype = tensor->dtype;
      }
    }
    contents.push_back(std::move(content));
    sources.push_back({section.name, section.role, dtype, section.shape, {contents.back()}});
  }
  if (seen != tensors.size()) {
    return fail(ErrorCode::kInvalidArgument, "[state] the model has {} tensors of state, {} of which are here ({})",
                tensors.size(), seen, object.origin());
  }
  formats::StateDescription description = object.description();
  if (!conversion.keep_sampler) description.sampler.reset();
  return formats::write_state_file(out, description, sources, {conversion.zstd_level});
}

}  // namespace krait::runtime
