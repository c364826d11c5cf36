#include "krait/models/translated_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "krait/core/check.h"

namespace krait::models {
namespace {

// Rows that are widened at once: enough to be fast, little enough to stay in cache.
constexpr std::int64_t kRowsAtOnce = 16;

Result<void> narrow(std::span<const float> values, DType dtype, std::byte* out) {
  if (dtype == DType::kF32) {
    if (!values.empty()) std::memcpy(out, values.data(), values.size_bytes());
    return {};
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t bits = dtype == DType::kBF16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    if (dtype == DType::kF16 && std::isfinite(values[i]) && !std::isfinite(f16_to_f32(bits))) {
      return fail(ErrorCode::kInvalidArgument, "[weights] {} is more than f16 holds", values[i]);
    }
    std::memcpy(out + i * sizeof bits, &bits, sizeof bits);
  }
  return {};
}

}  // namespace

TranslatedSource::TranslatedSource(std::shared_ptr<const formats::WeightSource> source, std::string_view format)
    : source_(std::move(source)), format_(format), config_(source_->origin()) {}

void TranslatedSource::add(const std::string& name, DType dtype, const Shape& shape, RowPlan plan) {
  const std::uint64_t bytes = *bytes_for(dtype, *element_count(shape));
  const std::int64_t columns = shape.empty() ? 1 : shape.back();
  tensors_.push_back({name, dtype, shape, bytes});
  Recipe& recipe = recipes_[name];
  KRAIT_CHECK(!plan.origins.empty() && !plan.runs.empty(), "tensor {} is made of nothing", name);
  const RowRun& run = plan.runs.front();
  const RowOrigin& origin = plan.origins[run.origin];
  const bool whole = plan.slices == 1 || (run.first == 0 && run.count == origin.rows);
  if (plan.runs.size() == 1 && whole && run.factor == 1.0F && origin.factors.empty() &&
      source_->find(origin.name)->dtype == dtype) {
    recipe.from = origin.name;
    recipe.offset = *bytes_for(dtype, run.first * columns);
    return;
  }
  recipe.make = [this, name, dtype, columns, plan = std::move(plan)](std::span<std::byte> out) -> Result<void> {
    auto made = make_rows(plan, dtype, columns, out);
    if (made) return {};
    return fail(made.error().code, "{} (tensor {}, {})", made.error().message, name, source_->origin());
  };
}

void TranslatedSource::add(const std::string& name, const Shape& shape, const std::string& from, Change change) {
  tensors_.push_back({name, DType::kF32, shape, *bytes_for(DType::kF32, *element_count(shape))});
  recipes_[name].make = [this, from, change = std::move(change)](std::span<std::byte> out) -> Result<void> {
    KRAIT_ASSIGN(const TensorView view, source_->view(from));
    const std::span<float> values(reinterpret_cast<float*>(out.data()), out.size() / sizeof(float));
    KRAIT_TRY(formats::read_as_f32(view, values));
    if (!change) return {};
    auto changed = change(values);
    if (changed) return {};
    return fail(changed.error().code, "{} (tensor {}, {})", changed.error().message, from, source_->origin());
  };
}

void TranslatedSource::finish(formats::Config config) {
  config_ = std::move(config);
  std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
}

Result<void> TranslatedSource::make_rows(const RowPlan& plan, DType dtype, std::int64_t columns,
                                         std::span<std::byte> out) const {
  std::vector<TensorView> views;
  for (const RowOrigin& origin : plan.origins) {
    KRAIT_ASSIGN(TensorView view, source_->view(origin.name));
    views.push_back(std::move(view));
  }
  const std::size_t row_bytes = *bytes_for(dtype, columns);
  std::vector<float> wide(static_cast<std::size_t>(kRowsAtOnce * columns));
  std::byte* target = out.data();
  for (std::int64_t slice = 0; slice < plan.slices; ++slice) {
    for (const RowRun& run : plan.runs) {
      const RowOrigin& origin = plan.origins[run.origin];
      const TensorView& view = views[run.origin];
      const float own = origin.factors.empty() ? 1.0F : origin.factors[static_cast<std::size_t>(slice)];
      const float factor = own * run.factor;
      const std::size_t from_bytes = *bytes_for(view.dtype, columns);
      const std::span<const std::byte> from =
          view.bytes.subspan(static_cast<std::size_t>(slice * origin.rows + run.first) * from_bytes,
                             static_cast<std::size_t>(run.count) * from_bytes);
      if (view.dtype == dtype && factor == 1.0F) {
        if (!from.empty()) std::memcpy(target, from.data(), from.size());
        target += from.size();
        continue;
      }
      for (std::int64_t row = 0; row < run.count; row += kRowsAtOnce) {
        const std::int64_t rows = std::min(kRowsAtOnce, run.count - row);
        const auto count = static_cast<std::size_t>(rows);
        const std::span<float> values = std::span(wide).first(count * static_cast<std::size_t>(columns));
        const auto part = from.subspan(static_cast<std::size_t>(row) * from_bytes, count * from_bytes);
        KRAIT_TRY(formats::read_as_f32({view.dtype, {rows, columns}, part}, values));
        if (factor != 1.0F) {
          for (float& value : values) value *= factor;
        }
        KRAIT_TRY(narrow(values, dtype, target));
        target += count * row_bytes;
      }
    }
  }
  for (const RowOrigin& origin : plan.origins) source_->release(origin.name);
  return {};
}

Result<TensorView> TranslatedSource::view(std::string_view name) const {
  const auto found = recipes_.find(name);
  const formats::TensorInfo* info = find(name);
  if (found == recipes_.end() || info == nullptr) {
    return fail(ErrorCode::kNotFound, "[{}] no tensor \"{}\" ({})", format_, name, origin());
  }
  const Recipe& recipe = found->second;
  if (!recipe.make) {
    KRAIT_ASSIGN(const TensorView view, source_->view(recipe.from));
    return TensorView{info->dtype, info->shape, view.bytes.subspan(recipe.offset, info->bytes)};
  }
  const std::lock_guard lock(mutex_);
  auto made = made_.find(name);
  if (made == made_.end()) {
    AlignedBuffer buffer(info->bytes);
    KRAIT_TRY(recipe.make({buffer.data(), info->bytes}));
    made = made_.emplace(name, std::move(buffer)).first;
  }
  return TensorView{info->dtype, info->shape, {made->second.data(), info->bytes}};
}

void TranslatedSource::release(std::string_view name) const {
  const auto found = recipes_.find(name);
  if (found == recipes_.end()) return;
  if (!found->second.make) return source_->release(found->second.from);
  const std::lock_guard lock(mutex_);
  if (const auto made = made_.find(name); made != made_.end()) made_.erase(made);
}

}  // namespace krait::models
