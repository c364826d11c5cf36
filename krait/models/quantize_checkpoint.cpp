#include "krait/models/quantize_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "krait/formats/safetensors_writer.h"
#include "krait/kernels/low_bit_row.h"
#include "krait/models/registry.h"
#include "krait/models/weight_packing.h"

namespace krait::models {
namespace {

using kernels::PanelFormat;

// The tensors that take a matrix's place, and their memory.
class LowBitTensors {
 public:
  LowBitTensors(PanelFormat format, std::int64_t rows, std::int64_t columns)
      : format_(format), rows_(rows), columns_(columns) {
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

  void append_to(std::vector<formats::NamedTensor>& tensors, const std::string& name) const {
    const std::int64_t code_columns = four_bits_ ? row_bytes_ : columns_;
    tensors.push_back({name, {four_bits_ ? DType::kU8 : DType::kI8, {rows_, code_columns}, codes_}});
    const Shape scale_shape = scale_bytes_ == 4 ? Shape{rows_} : Shape{rows_, groups_};
    tensors.push_back({name + ".scale", {scale_bytes_ == 4 ? DType::kF32 : DType::kF16, scale_shape, scales_}});
    if (zeros_wanted_) tensors.push_back({name + ".zero", {DType::kU8, {rows_, groups_}, zeros_}});
  }

 private:
  PanelFormat format_;
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

}  // namespace

Result<QuantizedSizes> write_quantized(std::shared_ptr<const formats::WeightSource> source, PanelFormat format,
                                       const std::filesystem::path& file,
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

  QuantizedSizes sizes;
  sizes.matrices = static_cast<std::int64_t>(names.size());
  std::vector<LowBitTensors> quantized;
  quantized.reserve(names.size());  // views into its elements are kept
  std::vector<formats::NamedTensor> tensors;
  for (const formats::TensorInfo& info : source->tensors()) {
    sizes.bytes_before += info.bytes;
    if (!std::ranges::binary_search(names, info.name)) {
      KRAIT_ASSIGN(const TensorView view, source->view(info.name));
      tensors.push_back({info.name, view});
      continue;
    }
    if (!progress(static_cast<std::int64_t>(quantized.size()), sizes.matrices)) {
      return fail(ErrorCode::kCancelled, "[quantize] stopped");
    }
    KRAIT_ASSIGN(LowBitTensors low, quantize_matrix(*source, info, format));
    source->release(info.name);
    quantized.push_back(std::move(low));
    quantized.back().append_to(tensors, info.name);
  }
  for (const formats::NamedTensor& tensor : tensors) sizes.bytes_after += tensor.view.bytes.size();
  KRAIT_TRY(formats::write_safetensors(file, tensors, {{"format", "pt"}}));
  return sizes;
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
