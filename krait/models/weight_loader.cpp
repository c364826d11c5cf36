#include "krait/models/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/state_storage.h"
#include "krait/models/planned_source.h"

namespace krait::models {
namespace {

// No dimension of a model comes near this; products of two and sums of a few stay far from overflow.
constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;

kernels::ActivationFormat own_activations(kernels::PanelFormat format) {
  if (kernels::is_float(format)) return kernels::ActivationFormat::kF32;
  return format == kernels::PanelFormat::kInt8Block ? kernels::ActivationFormat::kQ8Block32
                                                    : kernels::ActivationFormat::kQ8Row;
}

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
  if (options.weights && kernels::scale_group(*options.weights) > 128) {
    set_error(
        {ErrorCode::kUnsupported, fmt::format("[models] no weights can be made {}", to_string(*options.weights))});
  }
  if (!kernels::is_state_dtype(options.state_dtype)) {
    set_error(
        {ErrorCode::kUnsupported, fmt::format("[models] states cannot be kept as {}", to_string(options.state_dtype))});
  }
  if (!kernels::is_state_dtype(options.kv_dtype)) {
    set_error({ErrorCode::kUnsupported,
               fmt::format("[models] keys and values cannot be kept as {}", to_string(options.kv_dtype))});
  }
  low_bit_ = take<std::optional<kernels::PanelFormat>>(stored_low_bit_format(config()), std::nullopt);
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

std::int64_t WeightLoader::vocabulary(const std::string& embedding) {
  if (planning()) {
    for (const char* key : {"text_config.vocab_size", "padded_vocab_size"}) {
      if (config().has(key)) return size(key);
    }
    return size("vocab_size");
  }
  const Shape table = shape(embedding);
  return table.empty() ? 0 : table.front();
}

std::int64_t WeightLoader::offset_or(std::string_view key, std::int64_t fallback) {
  return config().has(key) && config().integer(key).value_or(1) == 0 ? 0 : size_or(key, fallback);
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

Shape WeightLoader::shape(const std::string& alias) {
  const std::string name = actual(alias);
  if (const formats::TensorInfo* info = source_->find(name)) return info->shape;
  set_error({ErrorCode::kNotFound, fmt::format("[models] no tensor {} in {}", name, source_->origin())});
  return {};
}

std::optional<TensorView> WeightLoader::read(const std::string& name, std::span<const std::int64_t> expected,
                                             bool any_shape, bool bytes) {
  if (failed()) return std::nullopt;
  if (options_.plan != nullptr) options_.plan->expect(name, Shape(expected.begin(), expected.end()));
  const formats::TensorInfo* info = source_->find(name);
  auto view = (options_.shapes_only || !bytes) && info != nullptr
                  ? Result<TensorView>(TensorView{info->dtype, info->shape, {}})
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

kernels::WeightMatrix WeightLoader::read_matrix(const std::string& alias, std::int64_t rows, std::int64_t columns,
                                                const MatrixOptions& how) {
  if (failed()) return {};
  const std::string name = actual(alias);
  const formats::TensorInfo* info = source_->find(name);
  const bool own = low_bit_ && has(name + ".scale");
  // krait's own low-bit files have two columns to a byte; StoredMatrix checks them.
  if (!own) {
    // Slices of a stack [E, N, K] are rows of [E N, K].
    const std::int64_t all = how.rows.all == 0 ? rows : how.rows.all;
    const bool stack = all % rows == 0 &&
                       (planning() ? all > rows && how.rows.order.empty() : info != nullptr && info->shape.size() == 3);
    if (!read(name, stack ? Shape{all / rows, rows, columns} : Shape{all, columns}, /*any_shape=*/stack,
              /*bytes=*/false)) {
      return {};
    }
    parameters_ -= (all - rows) * columns;
    info = source_->find(name);
  } else {
    parameters_ += rows * columns;
  }
  const auto stored = StoredMatrix::find(*source_, name, rows, columns, low_bit_, how.rows);
  if (!stored) {
    set_error(stored.error());
    return {};
  }
  kernels::WeightMatrix matrix;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.panels = options_.weights.value_or(options_.exact_activations && !kernels::is_float(stored->format()) && !own
                                                ? kernels::PanelFormat::kF32
                                                : stored->format());
  const bool as_stored = matrix.panels == stored->format();
  matrix.activations = own_activations(matrix.panels);
  if (is_gguf() && !options_.exact_activations && (as_stored || kernels::is_float(matrix.panels))) {
    matrix.activations = kernels::activation_format_of(info->dtype);
  }
  if (!weights_) weights_ = matrix.panels;
  if (options_.in_place && as_stored && kernels::is_float(matrix.panels) && how.rows.order.empty() &&
      (info->dtype == DType::kF32 || matrix.panels != kernels::PanelFormat::kF32)) {
    matrix.dtype = info->dtype;
    note_batch_dependence("weights used in place");
    if (!options_.shapes_only) {
      const auto bytes = take<TensorView>(source_->view(name), {}).bytes;
      matrix.data = bytes.subspan(*bytes_for(info->dtype, how.rows.first * columns)).data();
    }
  } else {
    matrix.layout = kernels::WeightLayout::kPanels;
    if (!options_.shapes_only) {
      if (!pool_) pool_ = std::make_unique<ThreadPool>();
      std::byte* panels = arena_.take(kernels::weight_memory(matrix));
      if (auto packed = stored->pack(*pool_, matrix.panels, panels); !packed) {
        set_error({packed.error().code, fmt::format("{} (tensor {})", packed.error().message, name)});
      }
      matrix.data = panels;
      stored->release();
    }
  }
  if (failed()) return {};
  weight_bytes_ += kernels::weight_memory(matrix);
  if (matrices_.empty() || matrices_.back() != name) matrices_.push_back(name);
  // "ssm_in.weight" may have an "ssm_in.scale" beside it in a GGUF.
  const std::string scale = name.substr(0, name.rfind('.')) + ".scale";
  if (is_gguf() && how.gguf_scale && has(scale)) {
    // One, or one for every slice of a stack.
    const std::int64_t slices = std::max<std::int64_t>(1, how.rows.all / rows);
    const float* values = vector(scale, slices);
    if (values != nullptr) matrix.scale = values[how.rows.first / rows];
  }
  return matrix;
}

kernels::WeightMatrix WeightLoader::matrix(const std::string& name, std::int64_t rows, std::int64_t columns,
                                           const MatrixOptions& how) {
  const kernels::WeightMatrix matrix = read_matrix(name, rows, columns, how);
  if (failed()) return matrix;
  const auto share = [&](std::uint64_t count) {
    return static_cast<std::uint64_t>(std::llround(static_cast<double>(count) * how.read_share));
  };
  streamed_bytes_ += share(kernels::weight_memory(matrix));
  flops_ += share(2 * static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(columns));
  return matrix;
}

kernels::WeightMatrix WeightLoader::embedding(const std::string& name, std::int64_t rows, std::int64_t columns) {
  return read_matrix(name, rows, columns, {});
}

void WeightLoader::note_batch_dependence(std::string_view why) {
  if (batch_dependence_.find(why) != std::string::npos) return;
  batch_dependence_ += fmt::format("{}{}", batch_dependence_.empty() ? "" : ", ", why);
}

void WeightLoader::count_head(const kernels::WeightMatrix& head) {
  if (failed()) return;
  streamed_bytes_ += kernels::weight_memory(head);
  head_flops_ = 2 * static_cast<std::uint64_t>(head.rows) * static_cast<std::uint64_t>(head.columns);
}

float* WeightLoader::widened(const TensorView& view, const std::string& name, std::int64_t count) {
  AlignedBuffer& buffer = buffers_.emplace_back(static_cast<std::size_t>(count) * sizeof(float));
  if (auto read = formats::read_as_f32(view, buffer.as<float>()); !read) {
    set_error({read.error().code, fmt::format("{} (tensor {})", read.error().message, name)});
    return nullptr;
  }
  return buffer.as<float>().data();
}

float* WeightLoader::vector(const std::string& alias, std::int64_t count) {
  const std::string name = actual(alias);
  const auto view = read(name, Shape{count}, /*any_shape=*/true);
  if (!view) return nullptr;
  const std::uint64_t bytes = static_cast<std::uint64_t>(count) * sizeof(float);
  weight_bytes_ += bytes;
  streamed_bytes_ += bytes;
  return options_.shapes_only ? nullptr : widened(*view, name, count);
}

float* WeightLoader::transposed(const std::string& alias, std::int64_t rows, std::int64_t columns) {
  const std::string name = actual(alias);
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

float* WeightLoader::taps(const std::string& name, std::int64_t channels, std::int64_t width) {
  if (width > kernels::Conv1dCausal::kMostWidth) {
    set_error({ErrorCode::kUnsupported,
               fmt::format("[models] a convolution over {} tokens: at most {} are supported (tensor {}, {})", width,
                           kernels::Conv1dCausal::kMostWidth, name, source_->origin())});
  }
  return transposed(name, channels, width);
}

bool WeightLoader::rows_are_sound(const std::string& name, std::int64_t rows) {
  if (rows >= 1 && rows <= kLargestSize) return true;
  set_error(
      {ErrorCode::kCorrupt, fmt::format("[models] tensor {} would have {} rows ({})", name, rows, config().origin())});
  return false;
}

void WeightLoader::add_one(float* values, std::int64_t count) const {
  if (values == nullptr) return;
  for (std::int64_t i = 0; i < count; ++i) values[i] += 1.0F;
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
  info.weights = weights_.value_or(kernels::PanelFormat::kF32);
  info.matrices = std::move(matrices_);
  info.weight_bytes = weight_bytes_;
  info.batch_dependence = std::move(batch_dependence_);
  info.decode_weight_bytes = streamed_bytes_;
  info.matmul_flops_per_token = flops_;
  info.head_flops = head_flops_;
  return {std::move(source_), std::move(arena_), std::move(buffers_)};
}

std::string WeightScope::name(std::string_view tensor, std::string_view gguf_tensor) const {
  return loader_.is_gguf() ? gguf_prefix_ + std::string(gguf_tensor) : prefix_ + std::string(tensor);
}

void WeightScope::negative_exponential(float* values, std::int64_t count) const {
  if (values == nullptr || loader_.is_gguf()) return;
  for (std::int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(-std::exp(static_cast<double>(values[i])));
}

}  // namespace krait::models
