#include "krait/models/weight_packing.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

namespace krait::models {
namespace {

using kernels::kPanelOutputs;
using kernels::PanelFormat;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

bool is_four_bits(PanelFormat format) {
  return format >= PanelFormat::kInt4Group32 && format <= PanelFormat::kInt4Group128Zero;
}
bool has_zeros(PanelFormat format) {
  return format == PanelFormat::kInt4Group32Zero || format == PanelFormat::kInt4Group128Zero;
}

PanelFormat format_of(DType dtype) {
  if (dtype == DType::kF16) return PanelFormat::kF16;
  if (dtype == DType::kBF16) return PanelFormat::kBF16;
  return kernels::panel_format_of(dtype).value_or(PanelFormat::kF32);
}

// The bytes of a tensor of exactly that type and number of elements.
Result<std::span<const std::byte>> bytes_of(const formats::WeightSource& source, const std::string& name, DType dtype,
                                            std::int64_t elements) {
  KRAIT_ASSIGN(const TensorView view, source.view(name));
  if (view.dtype != dtype || element_count(view.shape) != elements) {
    return fail(ErrorCode::kCorrupt, "[models] tensor {} is {} of shape {}, expected {} {} values ({})", name,
                to_string(view.dtype), to_string(view.shape), elements, to_string(dtype), source.origin());
  }
  return view.bytes;
}

}  // namespace

Result<std::optional<PanelFormat>> stored_low_bit_format(const formats::Config& config) {
  KRAIT_ASSIGN(const std::string method, config.text_or("quantization_config.quant_method", ""));
  if (method.empty()) return std::nullopt;
  if (method != "krait") {
    return fail(ErrorCode::kUnsupported, "[models] weights quantized by \"{}\" cannot be read ({})", method,
                config.origin());
  }
  KRAIT_ASSIGN(const std::string name, config.text("quantization_config.weights"));
  const auto format = kernels::parse_panel_format(name);
  if (!format || kernels::is_float(*format) || kernels::scale_group(*format) > 128) {
    return fail(ErrorCode::kUnsupported, "[models] no weights of \"{}\" ({})", name, config.origin());
  }
  return *format;
}

Result<StoredMatrix> StoredMatrix::find(const formats::WeightSource& source, const std::string& name, std::int64_t rows,
                                        std::int64_t columns, std::optional<PanelFormat> low_bit, MatrixRows part) {
  StoredMatrix matrix;
  matrix.source_ = &source;
  matrix.info_ = source.find(name);
  matrix.rows_ = rows;
  matrix.columns_ = columns;
  if (part.all == 0) part.all = rows;
  const std::int64_t all = part.all;
  matrix.part_ = std::move(part);
  if (matrix.info_ == nullptr) return fail(ErrorCode::kNotFound, "[models] no tensor {} in {}", name, source.origin());
  if (low_bit && source.find(name + ".scale") != nullptr) {
    matrix.own_ = true;
    matrix.format_ = *low_bit;
    const bool four = is_four_bits(*low_bit);
    const std::int64_t group = kernels::scale_group(*low_bit);
    const std::int64_t groups = group == 0 ? 1 : divide_up(columns, group);
    KRAIT_ASSIGN(matrix.bytes_, bytes_of(source, name, four ? DType::kU8 : DType::kI8,
                                         all * (four ? divide_up(columns, 2) : columns)));
    KRAIT_ASSIGN(matrix.scales_,
                 bytes_of(source, name + ".scale", group == 0 ? DType::kF32 : DType::kF16, all * groups));
    if (has_zeros(*low_bit)) {
      KRAIT_ASSIGN(matrix.zeros_, bytes_of(source, name + ".zero", DType::kU8, all * groups));
    }
    return matrix;
  }
  matrix.format_ = format_of(matrix.info_->dtype);
  if (kernels::is_float(matrix.format_)) return matrix;
  const auto bytes = bytes_for(matrix.info_->dtype, columns);
  if (!bytes) {
    return fail(ErrorCode::kCorrupt, "[models] tensor {}: rows of {} do not fill whole {} blocks", name, columns,
                to_string(matrix.info_->dtype));
  }
  KRAIT_ASSIGN(matrix.bytes_, bytes_of(source, name, matrix.info_->dtype, all * columns));
  return matrix;
}

void StoredMatrix::release() const {
  source_->release(info_->name);
  if (own_) source_->release(info_->name + ".scale");
}

void StoredMatrix::read_codes(std::int64_t row, kernels::LowBitRow& out) const {
  row = tensor_row(row);
  if (!own_) {
    kernels::read_blocks(info_->dtype,
                         bytes_.data() + static_cast<std::size_t>(row) * *bytes_for(info_->dtype, columns_), columns_,
                         out);
    return;
  }
  out.codes.resize(static_cast<std::size_t>(columns_));
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(bytes_.data());
  if (is_four_bits(format_)) {
    const std::uint8_t* from = bytes + row * divide_up(columns_, 2);
    for (std::int64_t k = 0; k < columns_; ++k) {
      out.codes[static_cast<std::size_t>(k)] = (from[k / 2] >> (k % 2 * 4)) & 0xf;
    }
  } else {
    const std::uint8_t* from = bytes + row * columns_;
    // -128 becomes -127, as in read_blocks().
    std::transform(from, from + columns_, out.codes.begin(),
                   [](std::uint8_t code) { return std::max<std::uint8_t>(1, code ^ 0x80); });
  }
  const std::int64_t group = kernels::scale_group(format_);
  if (group == 0) {
    std::memcpy(&out.scale, scales_.data() + row * 4, sizeof out.scale);
    return;
  }
  const auto groups = static_cast<std::size_t>(divide_up(columns_, group));
  out.scales.resize(groups);
  std::memcpy(out.scales.data(), scales_.data() + static_cast<std::size_t>(row) * groups * 2, groups * 2);
  if (zeros_.empty()) return;
  out.zeros.resize(groups);
  std::memcpy(out.zeros.data(), zeros_.data() + static_cast<std::size_t>(row) * groups, groups);
}

Result<void> StoredMatrix::read_floats(std::int64_t first, std::int64_t count, float* out) const {
  const std::span<float> values(out, static_cast<std::size_t>(count * columns_));
  if (!part_.order.empty() && count > 1) {
    for (std::int64_t i = 0; i < count; ++i) KRAIT_TRY(read_floats(first + i, 1, out + i * columns_));
    return {};
  }
  if (!own_) {
    first = tensor_row(first);
    // The tensor may have dimensions of length 1 anywhere ([C, 1, K] is [C, K]).
    if (!info_->shape.empty() && info_->shape.back() == columns_) {
      return source_->read_rows(*info_, first, count, values);
    }
    KRAIT_ASSIGN(const TensorView view, source_->view(info_->name));
    const std::size_t row_bytes = view.bytes.size() / static_cast<std::size_t>(part_.all);
    return formats::read_as_f32(
        {view.dtype,
         {count, columns_},
         view.bytes.subspan(static_cast<std::size_t>(first) * row_bytes, static_cast<std::size_t>(count) * row_bytes)},
        values);
  }
  // Through a panel of its own: one definition of what a code is worth.
  std::vector<kernels::LowBitRow> rows(static_cast<std::size_t>(count));
  std::vector<kernels::OutputCodes> outputs;
  for (std::int64_t i = 0; i < count; ++i) {
    read_codes(first + i, rows[static_cast<std::size_t>(i)]);
    outputs.push_back(rows[static_cast<std::size_t>(i)].view());
  }
  std::vector<std::byte> panel(static_cast<std::size_t>(kernels::panel_shape(format_, 1, columns_).panel_bytes));
  kernels::pack_code_panel(format_, outputs.data(), count, columns_, panel.data());
  for (std::int64_t i = 0; i < count; ++i) kernels::unpack_row(format_, panel.data(), i, columns_, out + i * columns_);
  return {};
}

Result<void> StoredMatrix::pack_panel(std::int64_t panel, PanelFormat wanted, std::byte* to) const {
  const std::int64_t first = panel * kPanelOutputs;
  const std::int64_t count = std::min(kPanelOutputs, rows_ - first);
  thread_local std::vector<kernels::LowBitRow> codes(kPanelOutputs);
  thread_local std::vector<float> floats;
  kernels::OutputCodes outputs[kPanelOutputs];
  const float* rows[kPanelOutputs] = {};
  const bool as_stored = wanted == format_ && !kernels::is_float(wanted);
  if (!as_stored) {
    floats.resize(static_cast<std::size_t>(count * columns_));
    KRAIT_TRY(read_floats(first, count, floats.data()));
  }
  for (std::int64_t i = 0; i < count; ++i) {
    kernels::LowBitRow& row = codes[static_cast<std::size_t>(i)];
    if (!as_stored) rows[i] = floats.data() + i * columns_;
    if (kernels::is_float(wanted)) continue;
    if (as_stored) {
      read_codes(first + i, row);
    } else {
      kernels::quantize_weights(wanted, rows[i], columns_, row);
    }
    outputs[i] = row.view();
  }
  if (kernels::is_float(wanted)) {
    kernels::pack_float_panel(wanted, rows, count, columns_, to);
  } else {
    kernels::pack_code_panel(wanted, outputs, count, columns_, to);
  }
  return {};
}

Result<void> StoredMatrix::pack(ThreadPool& pool, PanelFormat wanted, std::byte* panels) const {
  const kernels::PanelShape shape = kernels::panel_shape(wanted, rows_, columns_);
  std::mutex mutex;
  std::optional<Error> error;
  pool.parallel_for(shape.panels, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel) {
      if (auto packed = pack_panel(panel, wanted, panels + panel * shape.panel_bytes); !packed) {
        const std::lock_guard lock(mutex);
        if (!error) error = packed.error();
        return;
      }
    }
  });
  if (error) return std::unexpected(*error);
  return {};
}

}  // namespace krait::models
