#include "krait/nn/rotary.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "krait/nn/compute_threads.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

kernels::Rotary rotary_of(std::int64_t width, bool neighbours) { return {.width = width, .neighbours = neighbours}; }

class Rotate : public torch::autograd::Function<Rotate> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& table, std::int64_t width,
                        bool neighbours, std::int64_t head_width) {
    const Tensor y = as_rows(x).clone(at::MemoryFormat::Contiguous);
    kernels::rotate(ComputePool(), rotary_of(width, neighbours), rows_in<float>(table), head_width, rows_out<float>(y));
    context->save_for_backward({table});
    context->saved_data["width"] = width;
    context->saved_data["neighbours"] = neighbours;
    context->saved_data["head_width"] = head_width;
    return y.view(x.sizes());
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto& kept = context->saved_data;
    const Tensor dx = as_rows(upstream[0]).clone(at::MemoryFormat::Contiguous);
    kernels::rotate_backward(ComputePool(), rotary_of(kept.at("width").toInt(), kept.at("neighbours").toBool()),
                             rows_in<float>(context->get_saved_variables()[0]), kept.at("head_width").toInt(),
                             rows_out<float>(dx));
    return {dx.view(upstream[0].sizes()), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

// For double, in libtorch's own operations.
Tensor rotated(const kernels::Rotary& rotary, const Tensor& table, std::int64_t head_width, const Tensor& x) {
  const std::int64_t pairs = rotary.width / 2;
  const Tensor heads = as_rows(x).reshape({table.size(0), -1, head_width});
  const Tensor turned = heads.narrow(2, 0, rotary.width);
  const Tensor both =
      rotary.neighbours ? turned.unflatten(2, {pairs, 2}).transpose(2, 3) : turned.unflatten(2, {2, pairs});
  const Tensor left = both.select(2, 0), right = both.select(2, 1);
  const Tensor cosine = table.narrow(1, 0, pairs).unsqueeze(1), sine = table.narrow(1, pairs, pairs).unsqueeze(1);
  const Tensor result = at::stack({left * cosine - right * sine, left * sine + right * cosine}, 2);  // [M, heads, 2, …]
  const Tensor joined = (rotary.neighbours ? result.transpose(2, 3) : result).flatten(2);
  return at::cat({joined, heads.narrow(2, rotary.width, head_width - rotary.width)}, 2).reshape(x.sizes());
}

}  // namespace

Tensor rotary_table(const kernels::Rotary& rotary, const Segments& segments, std::int64_t rows, at::ScalarType type) {
  check_segments(segments, rows);
  if (rotary.width < 0 || rotary.width % 2 != 0) {
    throw UserError(fmt::format("a rotation of {} components", rotary.width), "they are turned in pairs");
  }
  std::vector<std::int64_t> positions(static_cast<std::size_t>(rows));
  for (const Segment& segment : segments) {
    for (std::int64_t t = 0; t < segment.rows; ++t) positions[static_cast<std::size_t>(segment.first_row + t)] = t;
  }
  const Tensor table = at::zeros({rows, rotary.width}, at::TensorOptions(type));
  check_real(table, "a table of rotations");
  if (type == at::kFloat) {
    kernels::rotary_table(ComputePool(), rotary, positions, rows_out<float>(table));
    return table;
  }
  const std::int64_t pairs = rotary.width / 2;
  for (std::int64_t row = 0; row < rows; ++row) {
    double* const values = table.data_ptr<double>() + row * rotary.width;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotary.width);
      const double divisor = rotary.divisors == nullptr ? 1.0 : rotary.divisors[i];
      const double angle =
          static_cast<double>(positions[static_cast<std::size_t>(row)]) * std::pow(rotary.theta, exponent) / divisor;
      values[i] = std::cos(angle);
      values[pairs + i] = std::sin(angle);
    }
  }
  return table;
}

Tensor rotate(const kernels::Rotary& rotary, const Tensor& table, std::int64_t head_width, const Tensor& x) {
  check_real(x, "what is rotated");
  check_same_type(table, x, "a table of rotations");
  const std::int64_t columns = x.dim() == 0 ? 0 : x.size(-1);
  if (head_width < 1 || columns == 0 || columns % head_width != 0 || rotary.width < 0 || rotary.width % 2 != 0 ||
      rotary.width > head_width) {
    throw UserError(fmt::format("{} components of heads of {} in {} columns", rotary.width, head_width, columns),
                    "rotations turn an even number of each head's components");
  }
  check_shape(table, {x.numel() / columns, rotary.width}, "a table of rotations");
  if (rotary.width == 0) return x;
  if (x.scalar_type() == at::kDouble) return rotated(rotary, table, head_width, x);
  return Rotate::apply(x, table, rotary.width, rotary.neighbours, head_width);
}

}  // namespace krait::nn
