#include "krait/formats/weight_source_table.h"

#include <algorithm>

namespace krait::formats {

Result<std::unique_ptr<WeightSource>> WeightTable::create(Parts parts) {
  std::ranges::sort(parts.entries, {}, [](const WeightEntry& entry) -> const std::string& { return entry.info.name; });
  for (std::size_t i = 1; i < parts.entries.size(); ++i) {
    if (parts.entries[i].info.name == parts.entries[i - 1].info.name) {
      return fail(ErrorCode::kCorrupt, "[{}] tensor \"{}\" is there twice ({})", parts.format,
                  parts.entries[i].info.name, parts.origin);
    }
  }
  return std::unique_ptr<WeightSource>(new WeightTable(std::move(parts)));
}

WeightTable::WeightTable(Parts parts)
    : format_(parts.format),
      origin_(std::move(parts.origin)),
      config_(std::move(parts.config)),
      file_(std::move(parts.file)),
      buffers_(std::move(parts.buffers)) {
  tensors_.reserve(parts.entries.size());
  bytes_.reserve(parts.entries.size());
  for (WeightEntry& entry : parts.entries) {
    tensors_.push_back(std::move(entry.info));
    bytes_.push_back(entry.bytes);
  }
}

Result<TensorView> WeightTable::view(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) return fail(ErrorCode::kNotFound, "[{}] no tensor \"{}\" ({})", format_, name, origin_);
  return TensorView{info->dtype, info->shape, bytes_[static_cast<std::size_t>(info - tensors_.data())]};
}

void WeightTable::release(std::string_view name) const {
  if (const TensorInfo* info = find(name)) file_.release(bytes_[static_cast<std::size_t>(info - tensors_.data())]);
}

}  // namespace krait::formats
