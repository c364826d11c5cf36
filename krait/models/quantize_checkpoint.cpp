#include "krait/models/quantize_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "krait/kernels/low_bit_row.h"
#include "krait/models/registry.h"
#include "krait/models/weight_packing.h"

namespace krait::models {
namespace {

using kernels::PanelFormat;

// The tensors that take a matrix's place, and their memory.
class LowBitTensors {
 public:
  LowBitTensors(PanelFormat format, std::int64_t rows, std::int64_t columns) : rows_(rows), columns_(columns) {
    const std::int64_t group = kernels::scale_group(format);
    four_bits_ = format != PanelFormat::kInt8 && format != PanelFormat::kInt8Block;
    zeros_wanted_ = format == PanelFormat::kInt4Group32Zero || format == PanelFormat::kInt4Group128Zero;
    groups_ = group == 0 ? 1 : (columns + group - 1) / group;
    row_bytes_ = four_bits_ ? (columns + 1) / 2 : columns;
    scale_bytes_ = group == 0 ? 4 : 2;
    codes_.resize(static_cast<std::size_t>(rows * row_bytes_));
    scales_.resize(static_cast<std::size_t>(rows * groups_ * scale_bytes_));
    if (zeros_wanted_) zeros_.resize(static_cast<std::size_t>(rows * groups_));
  }

  void set_row(std::int64_t row, const kernels::LowBitRow& from) {
    auto* to = reinterpret_cast<std::uint8_t*>(codes_.data()) + row * row_bytes_;
    for (std::int64_t k = 0; k < columns_; ++k) {
      const std::uint8_t code = from.codes[static_cast<std::size_t>(k)];
      if (four_bits_) {
        to[k / 2] = static_cast<std::uint8_t>(k % 2 == 0 ? code : to[k / 2] | code << 4);
      } else {
        to[k] = code ^ 0x80;
      }
    }
    std::byte* scales = scales_.data() + row * groups_ * scale_bytes_;
    if (scale_bytes_ == 4) {
      std::memcpy(scales, &from.scale, 4);
    } else {
      std::memcpy(scales, from.scales.data(), static_cast<std::size_t>(groups_ * 2));
    }
    if (zeros_wanted_) std::memcpy(zeros_.data() + row * groups_, from.zeros.data(), static_cast<std::size_t>(groups_));
  }

  // Calls visit(name, dtype, shape, bytes) for each of the tensors.
  template <class Visit>
  void each(const std::string& name, Visit&& visit) const {
    visit(name, four_bits_ ? DType::kU8 : DType::kI8, Shape{rows_, row_bytes_}, codes_);
    visit(name + ".scale", scale_bytes_ == 4 ? DType::kF32 : DType::kF16,
          scale_bytes_ == 4 ? Shape{rows_} : Shape{rows_, groups_}, scales_);
    if (zeros_wanted_) visit(name + ".zero", DType::kU8, Shape{rows_, groups_}, zeros_);
  }

 private:
  std::int64_t rows_, columns_, groups_ = 1, row_bytes_ = 0, scale_bytes_ = 2;
  bool four_bits_ = false, zeros_wanted_ = false;
  std::vector<std::byte> codes_, scales_, zeros_;
};

Result<LowBitTensors> quantize_matrix(const formats::WeightSource& source, const formats::TensorInfo& info,
                                      PanelFormat format) {
  const std::int64_t rows = info.shape.empty() ? 0 : info.shape.front();
  if (info.shape.size() != 2 || rows == 0) {
    return fail(ErrorCode::kUnsupported, "[quantize] matrix {} has shape {}", info.name, to_string(info.shape));
  }
  const std::int64_t columns = info.shape[1];
  LowBitTensors tensors(format, rows, columns);
  std::vector<float> values(static_cast<std::size_t>(columns));
  kernels::LowBitRow row;
  for (std::int64_t r = 0; r < rows; ++r) {
    KRAIT_TRY(source.read_rows(info, r, 1, values));
    if (!std::ranges::all_of(values, [](float v) { return v - v == 0.0F; })) {
      return fail(ErrorCode::kCorrupt, "[quantize] row {} of {} has a weight that is not finite", r, info.name);
    }
    kernels::quantize_weights(format, values.data(), columns, row);
    tensors.set_row(r, row);
  }
  return tensors;
}

class QuantizedSource final : public formats::WeightSource {
 public:
  explicit QuantizedSource(std::shared_ptr<const formats::WeightSource> source) : source_(std::move(source)) {}

  std::string_view format() const override { return source_->format(); }
  const formats::Config& config() const override { return source_->config(); }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  Result<TensorView> view(std::string_view name) const override {
    const formats::TensorInfo* tensor = find(name);
    if (tensor == nullptr) return fail(ErrorCode::kNotFound, "[quantize] no tensor {} in {}", name, origin());
    const auto found = bytes_.find(tensor->name);
    if (found == bytes_.end()) return source_->view(name);
    return TensorView{tensor->dtype, tensor->shape, found->second};
  }

  void keep(const formats::TensorInfo& tensor) { tensors_.push_back(tensor); }
  void add(const std::string& name, LowBitTensors matrix) {
    // A list does not move its elements, so the views stay valid.
    matrices_.push_back(std::move(matrix));
    matrices_.back().each(name,
                          [&](const std::string& part, DType dtype, Shape shape, std::span<const std::byte> bytes) {
                            tensors_.push_back({part, dtype, std::move(shape), bytes.size()});
                            bytes_.emplace(part, bytes);
                          });
  }
  void finish() { std::ranges::sort(tensors_, {}, &formats::TensorInfo::name); }

 private:
  std::shared_ptr<const formats::WeightSource> source_;
  std::vector<formats::TensorInfo> tensors_;
  std::list<LowBitTensors> matrices_;
  std::map<std::string, std::span<const std::byte>, std::less<>> bytes_;
};

}  // namespace

Result<std::unique_ptr<formats::WeightSource>> quantize_checkpoint(
    std::shared_ptr<const formats::WeightSource> source, PanelFormat format,
    const std::function<bool(std::int64_t, std::int64_t)>& progress) {
  if (source->format() == "gguf") {
    return fail(ErrorCode::kUnsupported,
                "[quantize] a GGUF has its own low-bit formats; give the safetensors or PyTorch checkpoint ({})",
                source->origin());
  }
  KRAIT_ASSIGN(const auto already, stored_low_bit_format(source->config()));
  if (already) {
    return fail(ErrorCode::kUnsupported, "[quantize] the weights are {} already ({})", to_string(*already),
                source->origin());
  }
  LoadOptions options;
  options.shapes_only = true;
  KRAIT_ASSIGN(const auto model, load_model(source, options));
  std::vector<std::string> names = model->info().matrices;
  std::ranges::sort(names);

  auto quantized = std::make_unique<QuantizedSource>(source);
  std::int64_t done = 0;
  for (const formats::TensorInfo& info : source->tensors()) {
    if (!std::ranges::binary_search(names, info.name)) {
      quantized->keep(info);
      continue;
    }
    if (!progress(done++, static_cast<std::int64_t>(names.size()))) {
      return fail(ErrorCode::kCancelled, "[quantize] stopped");
    }
    KRAIT_ASSIGN(LowBitTensors matrix, quantize_matrix(*source, info, format));
    source->release(info.name);
    quantized->add(info.name, std::move(matrix));
  }
  quantized->finish();
  return quantized;
}

Result<std::string> quantized_config(std::string_view config, PanelFormat format) {
  const std::size_t brace = config.find('{');
  const std::size_t next = brace == std::string_view::npos ? brace : config.find_first_not_of(" \t\r\n", brace + 1);
  if (next == std::string_view::npos)
    return fail(ErrorCode::kCorrupt, "[quantize] the configuration is no JSON object");
  // As text, since configurations may hold the bare word Infinity, which JSON writers do not write.
  return fmt::format("{}\n \"quantization_config\": {{\"quant_method\": \"krait\", \"weights\": \"{}\"}}{}{}",
                     config.substr(0, brace + 1), to_string(format), config[next] == '}' ? "" : ",",
                     config.substr(brace + 1));
}

}  // namespace krait::models
