#include "krait/models/gguf_builder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace krait::models {

// What comes out: owns all bytes that are not the source's.
class GgufBuilder::Checkpoint final : public formats::WeightSource {
 public:
  explicit Checkpoint(GgufBuilder&& from)
      : source_(std::move(from.source_)),
        config_(std::move(from.config_)),
        tensors_(std::move(from.tensors_)),
        bytes_(std::move(from.bytes_)),
        buffers_(std::move(from.buffers_)) {
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
  }

  std::string_view format() const override { return "gguf"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  Result<TensorView> view(std::string_view name) const override {
    const auto found = bytes_.find(name);
    const formats::TensorInfo* info = find(name);
    if (found == bytes_.end() || info == nullptr) {
      return fail(ErrorCode::kNotFound, "[gguf] no tensor \"{}\" ({})", name, origin());
    }
    return TensorView{info->dtype, info->shape, found->second};
  }

 private:
  std::shared_ptr<const formats::WeightSource> source_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::span<const std::byte>, std::less<>> bytes_;
  std::vector<AlignedBuffer> buffers_;
};

GgufBuilder::GgufBuilder(std::shared_ptr<const formats::WeightSource> source, std::string architecture)
    : source_(std::move(source)), architecture_(std::move(architecture)), config_(source_->origin()) {
  config_.set("general.architecture", architecture_);
}

void GgufBuilder::refuse(ErrorCode code, std::string message) {
  if (!error_) error_ = Error{code, fmt::format("[gguf] {} ({})", message, source_->origin())};
}

void GgufBuilder::set(std::string_view key, formats::Config::Value value) {
  config_.set(fmt::format("{}.{}", architecture_, key), std::move(value));
}

const formats::TensorInfo* GgufBuilder::take(const std::string& name) {
  if (failed()) return nullptr;
  const formats::TensorInfo* info = source_->find(name);
  if (info == nullptr) {
    refuse(ErrorCode::kNotFound, fmt::format("no tensor {}", name));
  } else {
    taken_.insert(name);
  }
  return info;
}

void GgufBuilder::put(const std::string& to, DType dtype, Shape shape, std::span<const std::byte> bytes) {
  bytes_[to] = bytes;
  tensors_.push_back({to, dtype, std::move(shape), bytes.size()});
}

std::span<std::byte> GgufBuilder::buffer(std::size_t bytes) {
  AlignedBuffer& made = buffers_.emplace_back(bytes);
  return {made.data(), bytes};
}

std::span<float> GgufBuilder::values(const formats::TensorInfo& info) {
  const auto view = source_->view(info.name);
  if (!view) {
    error_ = view.error();
    return {};
  }
  const auto count = static_cast<std::size_t>(element_count(view->shape).value_or(0));
  const std::span<float> result(reinterpret_cast<float*>(buffer(count * sizeof(float)).data()), count);
  if (auto read = formats::read_as_f32(*view, result); !read) error_ = read.error();
  return result;
}

void GgufBuilder::matrix(const std::string& name, const std::string& to, std::span<const std::int64_t> order,
                         std::span<const float> factors) {
  const formats::TensorInfo* info = take(name);
  if (info == nullptr) return;
  const auto view = source_->view(name);
  if (!view) {
    error_ = view.error();
    return;
  }
  if (order.empty() && factors.empty()) return put(to, view->dtype, view->shape, view->bytes);
  if (info->dtype != DType::kF32 && info->dtype != DType::kBF16 && info->dtype != DType::kF16) {
    return refuse(ErrorCode::kUnsupported,
                  fmt::format("rows of {} cannot be rearranged as {}", name, to_string(info->dtype)));
  }
  Shape shape = view->shape;
  const std::int64_t columns = shape.back(), rows = shape.size() < 2 ? 1 : shape[shape.size() - 2];
  const std::int64_t slices = rows * columns == 0 ? 0 : *element_count(shape) / (rows * columns);
  const auto count = static_cast<std::int64_t>(order.empty() ? factors.size() : order.size());
  for (const std::int64_t row : order) {
    if (row >= rows) return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has {} rows, not {}", name, rows, row));
  }
  if (order.empty() && count != rows) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has {} rows, not {}", name, rows, count));
  }
  const std::size_t row_bytes = *bytes_for(view->dtype, columns);
  const std::span<std::byte> made = buffer(static_cast<std::size_t>(slices * count) * row_bytes);
  std::vector<float> row(static_cast<std::size_t>(columns));
  for (std::int64_t i = 0; i < slices * count; ++i) {
    const std::int64_t place = i % count, from = order.empty() ? place : order[static_cast<std::size_t>(place)];
    const auto bytes = view->bytes.subspan(static_cast<std::size_t>(i / count * rows + from) * row_bytes, row_bytes);
    std::byte* const target = made.data() + static_cast<std::size_t>(i) * row_bytes;
    const float factor = factors.empty() ? 1.0F : factors[static_cast<std::size_t>(place)];
    if (factor == 1.0F) {
      std::memcpy(target, bytes.data(), row_bytes);
      continue;
    }
    if (auto read = formats::read_as_f32({view->dtype, {columns}, bytes}, row); !read) {
      error_ = read.error();
      return;
    }
    for (float& value : row) value *= factor;
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (view->dtype == DType::kF32) {
        std::memcpy(target + c * 4, &row[c], 4);
      } else {
        const std::uint16_t narrow = view->dtype == DType::kBF16 ? f32_to_bf16(row[c]) : f32_to_f16(row[c]);
        std::memcpy(target + c * 2, &narrow, 2);
      }
    }
  }
  if (shape.size() >= 2) shape[shape.size() - 2] = count;
  put(to, view->dtype, std::move(shape), made);
}

void GgufBuilder::scaled_matrix(const std::string& name, const std::string& to, float factor) {
  const formats::TensorInfo* info = source_->find(name);
  if (factor == 1.0F || info == nullptr || info->shape.size() < 2) return matrix(name, to);
  const std::vector<float> factors(static_cast<std::size_t>(info->shape[info->shape.size() - 2]), factor);
  matrix(name, to, {}, factors);
}

void GgufBuilder::stack(std::string_view pattern, const std::string& to, std::int64_t count) {
  std::span<std::byte> made;
  DType dtype = DType::kF32;
  Shape shape;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string name = fmt::format(fmt::runtime(pattern), i);
    if (take(name) == nullptr) return;
    const auto view = source_->view(name);
    if (!view) {
      error_ = view.error();
      return;
    }
    if (i == 0) {
      dtype = view->dtype;
      shape = view->shape;
      made = buffer(static_cast<std::size_t>(count) * view->bytes.size());
    } else if (view->dtype != dtype || view->shape != shape) {
      return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} has shape {}, its neighbours {}", name,
                                                     to_string(view->shape), to_string(shape)));
    }
    std::ranges::copy(view->bytes, made.data() + static_cast<std::size_t>(i) * view->bytes.size());
    source_->release(name);
  }
  shape.insert(shape.begin(), count);
  put(to, dtype, std::move(shape), made);
}

void GgufBuilder::vector(const std::string& name, const std::string& to, bool optional, float added) {
  if (optional && !has(name)) return;
  const formats::TensorInfo* info = take(name);
  if (info == nullptr) return;
  const std::span<float> made = values(*info);
  for (float& value : made) value += added;
  put(to, DType::kF32, info->shape, std::as_bytes(made));
}

void GgufBuilder::shaped(const std::string& name, const std::string& to, const Shape& shape) {
  const formats::TensorInfo* info = take(name);
  if (info == nullptr) return;
  if (element_count(info->shape) != element_count(shape)) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} of shape {} does not fill {}", name,
                                                   to_string(info->shape), to_string(shape)));
  }
  put(to, DType::kF32, shape, std::as_bytes(values(*info)));
}

void GgufBuilder::decay(const std::string& name, const std::string& to, const Shape& shape) {
  const formats::TensorInfo* info = take(name);
  if (info == nullptr) return;
  const std::span<float> made = values(*info);
  for (float& value : made) value = static_cast<float>(-std::exp(static_cast<double>(value)));
  if (!shape.empty() && element_count(info->shape) != element_count(shape)) {
    return refuse(ErrorCode::kCorrupt, fmt::format("tensor {} of shape {} does not fill {}", name,
                                                   to_string(info->shape), to_string(shape)));
  }
  put(to, DType::kF32, shape.empty() ? info->shape : shape, std::as_bytes(made));
}

void GgufBuilder::rotary_rows(const std::string& name, const std::string& to, std::int64_t heads, std::int64_t width,
                              std::int64_t rotary) {
  std::vector<std::int64_t> order;
  for (std::int64_t row = 0; row < heads * width; ++row) {
    const std::int64_t i = row % width;
    order.push_back(i < rotary ? row - i + i % 2 * (rotary / 2) + i / 2 : row);
  }
  matrix(name + ".weight", to + ".weight", order);
  if (!has(name + ".bias")) return;
  const formats::TensorInfo* info = take(name + ".bias");
  if (info == nullptr) return;
  const std::span<float> plain = values(*info);
  if (static_cast<std::int64_t>(plain.size()) != heads * width) {
    return refuse(ErrorCode::kCorrupt,
                  fmt::format("tensor {}.bias has {} values, not {}", name, plain.size(), heads * width));
  }
  const std::span<float> made(reinterpret_cast<float*>(buffer(plain.size_bytes()).data()), plain.size());
  for (std::size_t i = 0; i < made.size(); ++i) made[i] = plain[static_cast<std::size_t>(order[i])];
  put(to + ".bias", DType::kF32, info->shape, std::as_bytes(made));
}

Result<std::shared_ptr<const formats::WeightSource>> GgufBuilder::finish() {
  if (!failed()) {
    for (const formats::TensorInfo& tensor : source_->tensors()) {
      if (taken_.contains(tensor.name)) continue;
      refuse(ErrorCode::kUnsupported, fmt::format("tensor {} has no place in a {}", tensor.name, architecture_));
      break;
    }
  }
  if (failed()) return std::unexpected(*error_);
  return std::make_shared<const Checkpoint>(std::move(*this));
}

}  // namespace krait::models
