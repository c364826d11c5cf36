#include "krait/models/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "krait/kernels/state_storage.h"

namespace krait::models {
namespace {

// No dimension of a model comes near this; products of two and sums of a few stay far from overflow.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;

bool is_matrix_dtype(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

// Whether two shapes agree once dimensions of length 1 are dropped.
bool same_but_ones(std::span<const std::int64_t> left, std::span<const std::int64_t> right) {
  auto skip = [](std::span<const std::int64_t> shape, std::size_t i) {
    while (i < shape.size() && shape[i] == 1) ++i;
    return i;
  };
  std::size_t i = skip(left, 0);
  std::size_t j = skip(right, 0);
  while (i < left.size() && j < right.size()) {
    if (left[i] != right[j]) return false;
    i = skip(left, i + 1);
    j = skip(right, j + 1);
  }
  return i == left.size() && j == right.size();
}

}  // namespace

WeightLoader::WeightLoader(std::shared_ptr<const formats::WeightSource> source, const LoadOptions& options)
    : source_(std::move(source)), options_(options) {
  if (options.dtype && !is_matrix_dtype(*options.dtype)) {
    set_error(
        {ErrorCode::kUnsupported, fmt::format("[models] weights cannot be kept as {}", to_string(*options.dtype))});
  }
  if (!kernels::is_state_dtype(options.state_dtype)) {
    set_error(
        {ErrorCode::kUnsupported, fmt::format("[models] states cannot be kept as {}", to_string(options.state_dtype))});
  }
}

void WeightLoader::set_error(Error error) {
  if (!error_) error_ = std::move(error);
}

template <class T>
T WeightLoader::take(Result<T> result, T fallback) {
  if (result) return *std::move(result);
  set_error(std::move(result).error());
  return fallback;
}

std::int64_t WeightLoader::size(std::string_view key) {
  const std::int64_t value = take<std::int64_t>(config().integer(key), 1);
  if (value >= 1 && value <= kLargestSize) return value;
  set_error({ErrorCode::kCorrupt, fmt::format("[models] {} is {}, not a size ({})", key, value, config().origin())});
  return 1;
}

std::int64_t WeightLoader::size_or(std::string_view key, std::int64_t fallback) {
  return config().has(key) ? size(key) : fallback;
}

double WeightLoader::number_or(std::string_view key, double fallback) {
  return take<double>(config().number_or(key, fallback), fallback);
}

bool WeightLoader::boolean_or(std::string_view key, bool fallback) {
  return take<bool>(config().boolean_or(key, fallback), fallback);
}

std::optional<bool> WeightLoader::boolean_if_present(std::string_view key) {
  if (!config().has(key)) return std::nullopt;
  return boolean_or(key, false);
}

std::string WeightLoader::text_or(std::string_view key, std::string fallback) {
  return take<std::string>(config().text_or(key, fallback), fallback);
}

Shape WeightLoader::shape(const std::string& name) {
  if (const formats::TensorInfo* info = source_->find(name)) return info->shape;
  set_error({ErrorCode::kNotFound, fmt::format("[models] no tensor {} in {}", name, source_->origin())});
  return {};
}

std::optional<TensorView> WeightLoader::read(const std::string& name, std::span<const std::int64_t> expected,
                                             bool any_shape) {
  if (failed()) return std::nullopt;
  const formats::TensorInfo* info = source_->find(name);
  auto view = options_.shapes_only && info != nullptr ? Result<TensorView>(TensorView{info->dtype, info->shape, {}})
                                                      : source_->view(name);
  if (!view) {
    set_error(std::move(view).error());
    return std::nullopt;
  }
  const bool fits =
      any_shape ? element_count(view->shape) == element_count(expected) : same_but_ones(view->shape, expected);
  if (!fits) {
    set_error({ErrorCode::kCorrupt, fmt::format("[models] tensor {} has shape {}, expected {} ({})", name,
                                                to_string(view->shape), to_string(expected), source_->origin())});
    return std::nullopt;
  }
  parameters_ += *element_count(expected);
  return *std::move(view);
}

kernels::WeightMatrix WeightLoader::read_matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const auto view = read(name, Shape{rows, columns});
  if (!view) return {};
  const DType wanted = options_.dtype.value_or(is_matrix_dtype(view->dtype) ? view->dtype : DType::kF32);
  if (!matrix_dtype_) matrix_dtype_ = wanted;
  kernels::WeightMatrix matrix;
  matrix.dtype = wanted;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.data = view->bytes.data();
  if (view->dtype != wanted && !options_.shapes_only) matrix.data = converted(*view, name, wanted, rows, columns);
  if (failed()) return {};
  weight_bytes_ += *bytes_for(wanted, rows * columns);
  if (is_gguf() && !options_.exact_activations) matrix.activations = kernels::activation_format_of(view->dtype);
  // "ssm_in.weight" may have an "ssm_in.scale" beside it in a GGUF.
  const std::string scale = name.substr(0, name.rfind('.')) + ".scale";
  if (is_gguf() && has(scale)) {
    const float* value = vector(scale, 1);
    if (value != nullptr) matrix.scale = *value;
  }
  return matrix;
}

kernels::WeightMatrix WeightLoader::matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const kernels::WeightMatrix matrix = read_matrix(name, rows, columns);
  if (failed()) return matrix;
  streamed_bytes_ += *bytes_for(matrix.dtype, rows * columns);
  flops_ += 2 * static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(columns);
  return matrix;
}

kernels::WeightMatrix WeightLoader::embedding(const std::string& name, std::int64_t rows, std::int64_t columns) {
  return read_matrix(name, rows, columns);
}

void WeightLoader::count_head(const kernels::WeightMatrix& head) {
  if (failed()) return;
  streamed_bytes_ += *bytes_for(head.dtype, head.rows * head.columns);
  head_flops_ = 2 * static_cast<std::uint64_t>(head.rows) * static_cast<std::uint64_t>(head.columns);
}

const std::byte* WeightLoader::converted(const TensorView& view, const std::string& name, DType wanted,
                                         std::int64_t rows, std::int64_t columns) {
  if (wanted == DType::kF32) return reinterpret_cast<const std::byte*>(widened(view, name, rows * columns));
  const auto row_bytes = bytes_for(view.dtype, columns);
  if (!row_bytes) {
    set_error({ErrorCode::kCorrupt, fmt::format("[models] tensor {}: rows of {} do not fill whole {} blocks", name,
                                                columns, to_string(view.dtype))});
    return nullptr;
  }
  // Row by row through f32, so that a large matrix is never held widened as a whole.
  std::vector<float> row(static_cast<std::size_t>(columns));
  AlignedBuffer& buffer = buffers_.emplace_back(static_cast<std::size_t>(*bytes_for(wanted, rows * columns)));
  std::uint16_t* out = buffer.as<std::uint16_t>().data();
  TensorView part{view.dtype, {columns}, {}};
  for (std::int64_t r = 0; r < rows; ++r, out += columns) {
    part.bytes = view.bytes.subspan(static_cast<std::size_t>(r) * *row_bytes, *row_bytes);
    if (auto read = formats::read_as_f32(part, row); !read) {
      set_error({read.error().code, fmt::format("{} (tensor {})", read.error().message, name)});
      return nullptr;
    }
    if (wanted == DType::kBF16) {
      std::ranges::transform(row, out, f32_to_bf16);
    } else {
      std::ranges::transform(row, out, f32_to_f16);
    }
  }
  return buffer.data();
}

float* WeightLoader::widened(const TensorView& view, const std::string& name, std::int64_t count) {
  AlignedBuffer& buffer = buffers_.emplace_back(static_cast<std::size_t>(count) * sizeof(float));
  if (auto read = formats::read_as_f32(view, buffer.as<float>()); !read) {
    set_error({read.error().code, fmt::format("{} (tensor {})", read.error().message, name)});
    return nullptr;
  }
  return buffer.as<float>().data();
}

float* WeightLoader::vector(const std::string& name, std::int64_t count) {
  const auto view = read(name, Shape{count}, /*any_shape=*/true);
  if (!view) return nullptr;
  const std::uint64_t bytes = static_cast<std::uint64_t>(count) * sizeof(float);
  weight_bytes_ += bytes;
  streamed_bytes_ += bytes;
  return options_.shapes_only ? nullptr : widened(*view, name, count);
}

float* WeightLoader::transposed(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const auto view = read(name, Shape{rows, columns});
  if (!view) return nullptr;
  const std::uint64_t bytes = static_cast<std::uint64_t>(rows * columns) * sizeof(float);
  weight_bytes_ += bytes;
  streamed_bytes_ += bytes;
  if (options_.shapes_only) return nullptr;
  const float* plain = widened(*view, name, rows * columns);
  if (plain == nullptr) return nullptr;
  AlignedBuffer turned(bytes);
  float* out = turned.as<float>().data();
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) out[c * rows + r] = plain[r * columns + c];
  }
  buffers_.back() = std::move(turned);
  return out;
}

LoadedWeights WeightLoader::finish(ModelInfo& info) {
  const std::string_view bos_key = is_gguf() ? "tokenizer.ggml.bos_token_id" : "bos_token_id";
  const std::string_view eos_key = is_gguf() ? "tokenizer.ggml.eos_token_id" : "eos_token_id";
  // Files write -1 or 2^32-1 for "none".
  const auto is_token = [&](std::int64_t id) { return id >= 0 && id < info.vocabulary; };
  if (const auto bos = config().integer(bos_key); bos && is_token(*bos)) info.bos = static_cast<std::int32_t>(*bos);
  std::vector<std::int64_t> ends;
  if (const auto eos = config().integer(eos_key)) {
    ends.push_back(*eos);
  } else if (const auto several = config().integers(eos_key)) {
    ends = *several;
  }
  for (const std::int64_t id : ends) {
    if (is_token(id)) info.eos.push_back(static_cast<std::int32_t>(id));
  }
  info.format = source_->format();
  info.parameters = parameters_;
  info.dtype = matrix_dtype_.value_or(DType::kF32);
  info.weight_bytes = weight_bytes_;
  info.decode_weight_bytes = streamed_bytes_;
  info.matmul_flops_per_token = flops_;
  info.head_flops = head_flops_;
  return {std::move(source_), std::move(buffers_)};
}

std::string WeightScope::name(std::string_view tensor, std::string_view gguf_tensor) const {
  return loader_.is_gguf() ? gguf_prefix_ + std::string(gguf_tensor) : prefix_ + std::string(tensor);
}

void WeightScope::negative_exponential(float* values, std::int64_t count) const {
  if (values == nullptr || loader_.is_gguf()) return;
  for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(-std::exp(static_cast<double>(values[i])));
}

}  // namespace krait::models
