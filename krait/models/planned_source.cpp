#include "krait/models/planned_source.h"

#include <algorithm>

#include "krait/models/registry.h"

namespace krait::models {

PlannedSource::PlannedSource(formats::Config config, DType dtype, const std::vector<std::string>& names)
    : config_(std::move(config)), dtype_(dtype) {
  for (const std::string& name : names) tensors_.push_back({name, dtype, {}, 0});
  std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
}

Result<TensorView> PlannedSource::view(std::string_view name) const {
  return fail(ErrorCode::kNotFound, "[models] tensor {} has no bytes: only the configuration is there ({})", name,
              origin());
}

void PlannedSource::expect(const std::string& name, const Shape& shape) {
  auto at = std::ranges::lower_bound(tensors_, name, {}, &formats::TensorInfo::name);
  if (at == tensors_.end() || at->name != name) at = tensors_.insert(at, {name, dtype_, {}, 0});
  if (!at->shape.empty()) return;
  at->shape = shape;
  at->bytes = bytes_for(dtype_, element_count(shape).value_or(0)).value_or(0);
}

Result<std::shared_ptr<PlannedSource>> plan_checkpoint(formats::Config config, DType dtype,
                                                       const std::vector<std::string>& names) {
  auto source = std::make_shared<PlannedSource>(std::move(config), dtype, names);
  LoadOptions options;
  options.shapes_only = true;
  options.plan = source.get();
  KRAIT_TRY(load_model(source, options));
  return source;
}

}  // namespace krait::models
