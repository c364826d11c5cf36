#include "krait/models/gguf_translation.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "krait/core/check.h"

namespace krait::models {
namespace {

bool is_plain(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

std::int64_t columns_of(const Shape& shape) { return shape.empty() ? 1 : shape.back(); }

// Rows of a matrix, or of one slice of a stack [E, N, K].
std::int64_t rows_of(const Shape& shape) { return shape.size() < 2 ? 1 : shape[shape.size() - 2]; }

std::int64_t all_rows(const Shape& shape) {
  const std::int64_t columns = columns_of(shape);
  return columns == 0 ? 0 : *element_count(shape) / columns;
}

// Adds one row: to the run before it where it follows that.
void append(std::vector<RowRun>& runs, std::size_t origin, std::int64_t row, float factor = 1.0F) {
  if (!runs.empty()) {
    RowRun& last = runs.back();
    if (last.origin == origin && last.first + last.count == row && last.factor == factor) {
      ++last.count;
      return;
    }
  }
  runs.push_back({origin, row, 1, factor});
}

// A number that is an f32 in as few digits as give it back.
double fewest_digits(double value) {
  const auto narrow = static_cast<float>(value);
  return static_cast<double>(narrow) == value ? std::strtod(fmt::format("{}", narrow).c_str(), nullptr) : value;
}

Result<void> to_decay(std::span<float> values) {
  for (float& value : values) value = static_cast<float>(-std::exp(static_cast<double>(value)));
  return {};
}

// A that underflowed to -0 comes from an A_log of -inf as well as from any other.
Result<void> from_decay(std::span<float> values) {
  for (float& value : values) {
    if (!(value <= 0.0F)) return fail(ErrorCode::kCorrupt, "[gguf] A is {}, not below 0", value);
    value = static_cast<float>(std::log(-static_cast<double>(value)));
  }
  return {};
}

}  // namespace

GgufTranslation::GgufTranslation(std::shared_ptr<const formats::WeightSource> source, Direction direction,
                                 std::string architecture, std::optional<DType> matrices)
    : source_(std::move(source)),
      direction_(direction),
      architecture_(std::move(architecture)),
      matrices_(matrices),
      made_(std::make_shared<TranslatedSource>(source_, to_gguf() ? "gguf" : "safetensors")),
      config_(source_->origin()) {
  if (to_gguf()) config_.set("general.architecture", architecture_);
}

bool GgufTranslation::has(std::string_view name, std::string_view gguf) const {
  return source_->find(to_gguf() ? name : gguf) != nullptr;
}

Shape GgufTranslation::shape(const std::string& name, const std::string& gguf) const {
  const formats::TensorInfo* info = source_->find(to_gguf() ? name : gguf);
  return info == nullptr ? Shape{} : info->shape;
}

DType GgufTranslation::written_dtype_of(const std::string& name, const std::string& gguf) const {
  const formats::TensorInfo* info = source_->find(to_gguf() ? name : gguf);
  return info == nullptr ? DType::kF32 : written_dtype(*info);
}

void GgufTranslation::refuse(ErrorCode code, std::string message) {
  if (!error_) error_ = Error{code, fmt::format("[gguf] {} ({})", message, source_->origin())};
}

void GgufTranslation::set(std::string_view gguf, std::string_view name, formats::Config::Value value) {
  if (to_gguf()) {
    if (!gguf.empty()) config_.set(gguf_key(gguf), std::move(value));
  } else if (!name.empty()) {
    if (auto* number = std::get_if<double>(&value)) *number = fewest_digits(*number);
    config_.set(std::string(name), std::move(value));
  }
}

const formats::TensorInfo* GgufTranslation::take(const std::string& name) {
  if (failed()) return nullptr;
  const formats::TensorInfo* info = source_->find(name);
  if (info == nullptr) {
    refuse(ErrorCode::kNotFound, fmt::format("no tensor {}", name));
  } else {
    taken_.insert(name);
  }
  return info;
}

DType GgufTranslation::written_dtype(const formats::TensorInfo& info) const {
  if (to_gguf()) return info.dtype;
  return matrices_.value_or(is_plain(info.dtype) ? info.dtype : DType::kBF16);
}

std::vector<float> GgufTranslation::scales_of(const std::string& gguf, std::int64_t count) {
  const std::string name = gguf.substr(0, gguf.rfind('.')) + ".scale";
  if (to_gguf() || failed() || source_->find(name) == nullptr) return {};
  const formats::TensorInfo* info = take(name);
  std::vector<float> values(static_cast<std::size_t>(count));
  if (element_count(info->shape) != count) {
    refuse(ErrorCode::kCorrupt,
           fmt::format("tensor {} has shape {}, expected {} values", name, to_string(info->shape), count));
    return {};
  }
  const auto view = source_->view(name);
  if (!view) {
    error_ = view.error();
  } else if (auto read = formats::read_as_f32(*view, values); !read) {
    error_ = read.error();
  }
  if (std::ranges::all_of(values, [](float value) { return value == 1.0F; })) return {};
  return values;
}

float GgufTranslation::gguf_scale(const std::string& gguf) {
  const std::vector<float> scales = scales_of(gguf, 1);
  return scales.empty() ? 1.0F : scales.front();
}

void GgufTranslation::matrix(const std::string& name, const std::string& gguf, float factor, bool scales) {
  const formats::TensorInfo* info = take(to_gguf() ? name : gguf);
  if (info == nullptr) return;
  if (to_gguf() && factor != 1.0F) {
    const std::vector<float> factors(static_cast<std::size_t>(rows_of(info->shape)), factor);
    return matrix_of_factors(name, gguf, factors);
  }
  const bool stack = info->shape.size() == 3;
  const std::int64_t slices = stack ? info->shape.front() : 1;
  std::vector<float> found = scales_of(gguf, slices);
  if (!scales) found.clear();
  RowPlan plan;
  if (found.empty()) {
    plan = {{{info->name, all_rows(info->shape), {}}}, {{0, 0, all_rows(info->shape)}}, 1};
  } else {
    plan = {{{info->name, rows_of(info->shape), std::move(found)}}, {{0, 0, rows_of(info->shape)}}, slices};
  }
  made_->add(to_gguf() ? gguf : name, written_dtype(*info), info->shape, std::move(plan));
}

void GgufTranslation::matrix_of_factors(const std::string& name, const std::string& gguf,
                                        std::span<const float> factors) {
  if (!to_gguf() || factors.empty()) return matrix(name, gguf);
  const formats::TensorInfo* info = take(name);
  if (info == nullptr) return;
  const std::int64_t rows = rows_of(info->shape);
  if (static_cast<std::int64_t>(factors.size()) != rows) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has {} rows, not {}", name, rows, factors.size()));
  }
  if (!is_plain(info->dtype)) {
    return refuse(ErrorCode::kUnsupported,
                  fmt::format("rows of {} cannot be multiplied as {}", name, to_string(info->dtype)));
  }
  RowPlan plan{.origins = {{name, rows, {}}}, .runs = {}, .slices = rows == 0 ? 0 : all_rows(info->shape) / rows};
  for (std::int64_t row = 0; row < rows; ++row) append(plan.runs, 0, row, factors[static_cast<std::size_t>(row)]);
  made_->add(gguf, info->dtype, info->shape, std::move(plan));
}

void GgufTranslation::matrix_of_rows(const std::string& name, std::span<const GgufRows> parts, bool scales) {
  if (to_gguf()) {
    const formats::TensorInfo* info = take(name);
    if (info == nullptr) return;
    const std::int64_t rows = rows_of(info->shape);
    if (!is_plain(info->dtype)) {
      return refuse(ErrorCode::kUnsupported,
                    fmt::format("rows of {} cannot be rearranged as {}", name, to_string(info->dtype)));
    }
    for (const auto& [gguf, order] : parts) {
      RowPlan plan{.origins = {{name, rows, {}}}, .runs = {}, .slices = rows == 0 ? 0 : all_rows(info->shape) / rows};
      for (const std::int64_t row : order) {
        if (row >= rows) {
          return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has {} rows, not {}", name, rows, row));
        }
        append(plan.runs, 0, row);
      }
      Shape shape = info->shape;
      if (shape.size() >= 2) shape[shape.size() - 2] = static_cast<std::int64_t>(order.size());
      made_->add(gguf, info->dtype, shape, std::move(plan));
    }
    return;
  }
  // Where each row of the whole is: part and row.
  std::size_t total = 0;
  for (const GgufRows& part : parts) total += part.order.size();
  std::vector<std::pair<std::size_t, std::int64_t>> places(total, {parts.size(), 0});
  RowPlan plan;
  std::optional<DType> dtype;
  Shape shape;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const auto& [gguf, order] = parts[p];
    const formats::TensorInfo* info = take(gguf);
    if (info == nullptr) return;
    const auto rows = static_cast<std::int64_t>(order.size());
    Shape here = info->shape;
    if (here.size() < 2 || rows_of(here) != rows) {
      return refuse(ErrorCode::kCorrupt,
                    fmt::format("tensor {} has shape {}, not {} rows", gguf, to_string(here), rows));
    }
    plan.slices = rows == 0 ? 0 : all_rows(here) / rows;
    here[here.size() - 2] = static_cast<std::int64_t>(total);
    if (p > 0 && here != shape) {
      return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has shape {}, which does not fit {}", gguf,
                                                     to_string(info->shape), parts.front().gguf));
    }
    shape = std::move(here);
    std::vector<float> found = scales_of(gguf, shape.size() == 3 ? plan.slices : 1);
    if (!scales) found.clear();
    plan.origins.push_back({gguf, rows, std::move(found)});
    const DType written = written_dtype(*info);
    // Parts of several dtypes go into the one that loses nothing.
    dtype = !dtype || *dtype == written ? written : DType::kF32;
    for (std::int64_t row = 0; row < rows; ++row) {
      places.at(static_cast<std::size_t>(order[static_cast<std::size_t>(row)])) = {p, row};
    }
  }
  for (const auto& [part, row] : places) {
    KRAIT_CHECK(part < parts.size(), "a row of {} is in none of its parts", name);
    append(plan.runs, part, row);
  }
  made_->add(name, *dtype, shape, std::move(plan));
}

void GgufTranslation::rotary_rows(const std::string& name, const std::string& gguf, std::int64_t heads,
                                  std::int64_t width, std::int64_t rotary) {
  // Before a list is made that no matrix has.
  const Shape found = shape(name + ".weight", gguf + ".weight");
  if (!found.empty() && rows_of(found) != heads * width) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {}.weight has shape {}, not {} heads of {} rows",
                                                   to_gguf() ? name : gguf, to_string(found), heads, width));
  }
  std::vector<std::int64_t> order;
  for (std::int64_t row = 0; row < rows_of(found); ++row) {
    const std::int64_t i = row % width;
    order.push_back(i < rotary ? row - i + i % 2 * (rotary / 2) + i / 2 : row);
  }
  vector(name + ".bias", gguf + ".bias", {.optional = true, .order = order});
  const GgufRows rows[] = {{gguf + ".weight", std::move(order)}};
  matrix_of_rows(name + ".weight", rows);
}

void GgufTranslation::slice(const std::string& name, const std::string& gguf, std::int64_t index,
                            std::span<const float> scales) {
  const formats::TensorInfo& info = *source_->find(gguf);
  const std::int64_t rows = rows_of(info.shape);
  const float factor = scales.empty() ? 1.0F : scales[static_cast<std::size_t>(index)];
  const Shape shape(info.shape.begin() + 1, info.shape.end());
  made_->add(name, written_dtype(info), shape, {{{gguf, rows, {}}}, {{0, index * rows, rows, factor}}, 1});
}

void GgufTranslation::stack(std::string_view pattern, const std::string& gguf, std::int64_t count) {
  if (!to_gguf()) {
    const formats::TensorInfo* info = take(gguf);
    if (info == nullptr) return;
    if (info->shape.size() != 3 || info->shape.front() != count) {
      return refuse(ErrorCode::kCorrupt,
                    fmt::format("tensor {} has shape {}, not {} matrices", gguf, to_string(info->shape), count));
    }
    const std::vector<float> scales = scales_of(gguf, count);
    for (std::int64_t i = 0; i < count; ++i) slice(fmt::format(fmt::runtime(pattern), i), gguf, i, scales);
    return;
  }
  RowPlan plan;
  DType dtype = DType::kF32;
  Shape shape;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = fmt::format(fmt::runtime(pattern), i);
    const formats::TensorInfo* info = take(name);
    if (info == nullptr) return;
    if (i == 0) {
      dtype = info->dtype;
      shape = info->shape;
    } else if (info->dtype != dtype || info->shape != shape) {
      return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has shape {}, its neighbours {}", name,
                                                     to_string(info->shape), to_string(shape)));
    }
    const std::int64_t rows = all_rows(shape);
    plan.origins.push_back({name, rows, {}});
    plan.runs.push_back({static_cast<std::size_t>(i), 0, rows});
  }
  shape.insert(shape.begin(), count);
  made_->add(gguf, dtype, shape, std::move(plan));
}

void GgufTranslation::vector(const std::string& name, const std::string& gguf, const VectorChange& change) {
  if (change.optional && !has(name, gguf)) return;
  const formats::TensorInfo* info = take(to_gguf() ? name : gguf);
  if (info == nullptr) return;
  const Shape& wanted = to_gguf() ? change.gguf_shape : change.shape;
  const auto count = element_count(info->shape);
  if (!wanted.empty() && count != element_count(wanted)) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} of shape {} does not fill {}", info->name,
                                                   to_string(info->shape), to_string(wanted)));
  }
  if (!change.order.empty() && count != static_cast<std::int64_t>(change.order.size())) {
    return refuse(ErrorCode::kCorrupt,
                  fmt::format("tensor {} has {} values, not {}", info->name, *count, change.order.size()));
  }
  const Shape& shape = wanted.empty() ? info->shape : wanted;
  const std::string& target = to_gguf() ? gguf : name;
  if (change.decay) return made_->add(target, shape, info->name, to_gguf() ? to_decay : from_decay);
  const float added = to_gguf() ? change.added : -change.added;
  std::vector<std::int64_t> order(change.order.begin(), change.order.end());
  made_->add(target, shape, info->name,
             [added, factor = change.factor, order = std::move(order),
              forward = to_gguf()](std::span<float> values) -> Result<void> {
               for (float& value : values) value = value * factor + added;
               if (order.empty()) return {};
               const std::vector<float> before(values.begin(), values.end());
               for (std::size_t i = 0; i < order.size(); ++i) {
                 const auto here = static_cast<std::size_t>(order[i]);
                 values[forward ? i : here] = before[forward ? here : i];
               }
               return {};
             });
}

void GgufTranslation::vectors(std::span<const std::string> names, const std::string& gguf, const Shape& shape,
                              const Shape& gguf_shape) {
  const auto holds = [&](const formats::TensorInfo* info, const Shape& wanted) {
    if (info == nullptr) return false;
    if (element_count(info->shape) == element_count(wanted)) return true;
    refuse(ErrorCode::kCorrupt, fmt::format("tensor {} of shape {} does not fill {}", info->name,
                                            to_string(info->shape), to_string(wanted)));
    return false;
  };
  if (!to_gguf()) {
    if (!holds(take(gguf), gguf_shape)) return;
    const auto count = static_cast<std::int64_t>(names.size());
    for (std::int64_t i = 0; i < count; ++i) {
      made_->add(names[static_cast<std::size_t>(i)], DType::kF32, shape, {{{gguf, count, {}}}, {{0, i, 1}}, 1});
    }
    return;
  }
  RowPlan plan;
  for (const std::string& name : names) {
    if (!holds(take(name), shape)) return;
    plan.runs.push_back({plan.origins.size(), 0, 1});
    plan.origins.push_back({name, 1, {}});
  }
  made_->add(gguf, DType::kF32, gguf_shape, std::move(plan));
}

Result<std::shared_ptr<const formats::WeightSource>> GgufTranslation::finish() {
  if (!failed()) {
    for (const formats::TensorInfo& tensor : source_->tensors()) {
      if (taken_.contains(tensor.name)) continue;
      // Of activations in formats that no engine's graph of these architectures reads.
      if (!to_gguf() && tensor.name.ends_with(".input_scale")) continue;
      refuse(ErrorCode::kUnsupported, fmt::format("tensor {} has no place in {} {}", tensor.name,
                                                  to_gguf() ? "a" : "transformers' layout of a", architecture_));
      break;
    }
  }
  if (failed()) return std::unexpected(*error_);
  made_->finish(std::move(config_));
  return std::shared_ptr<const formats::WeightSource>(made_);
}

}  // namespace krait::models
