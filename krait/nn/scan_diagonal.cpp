#include "krait/nn/scan_diagonal.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/reference/scan_diagonal.h"
#include "krait/kernels/scan_diagonal_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// a: [2 N], or rows.
template <class Real>
kernels::DiagonalScanOf<Real> scan_of(const Tensor& a, bool of_rows) {
  return {.states = a.size(-1) / 2,
          .a = of_rows ? nullptr : values_of<Real>(a),
          .a_rows = of_rows ? rows_in<Real>(a) : kernels::Rows<const Real>()};
}

// None at all where `states` is undefined.
std::vector<double*> states_in_double(const Segments& segments, const Tensor& states) {
  std::vector<double*> all;
  if (!states.defined()) return all;
  for (std::size_t i = 0; i < segments.size(); ++i) all.push_back(state_of<double>(states, i).data());
  return all;
}

class DiagonalScan : public torch::autograd::Function<DiagonalScan> {
 public:
  static tensor_list forward(AutogradContext* context, const Tensor& u, const Tensor& a, const Tensor& state,
                             const Segments& segments, bool of_rows) {
    context->set_materialize_grads(false);
    const Tensor rows = as_rows(u), factors = of_rows ? as_rows(a) : as_block(a), before = as_block(state);
    const Tensor after = states_to_advance(before, {static_cast<std::int64_t>(segments.size()), rows.size(1)}, u);
    const Tensor h = new_segment_rows(u, segments, rows.size(0), rows.size(1));
    if (u.scalar_type() == at::kDouble) {
      const auto states = states_in_double(segments, after);
      kernels::reference::diagonal_scan(scan_of<double>(factors, of_rows), rows_in<double>(rows),
                                        sequences_of(segments), states, rows_out<double>(h));
    } else {
      const auto sequences = sequences_of(segments, after);
      kernels::diagonal_scan(ComputePool(), scan_of<float>(factors, of_rows), rows_in<float>(rows), sequences,
                             rows_out<float>(h));
    }
    context->save_for_backward({h, factors, before});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["of_rows"] = of_rows;
    context->saved_data["shape"] = u.sizes().vec();
    return {h.view(u.sizes()), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor &h = saved[0], &a = saved[1], &before = saved[2];
    const Segments segments = from_list(context->saved_data["segments"].toIntVector());
    const bool of_rows = context->saved_data["of_rows"].toBool();
    const auto shape = context->saved_data["shape"].toIntVector();
    const Tensor dh = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(h), d_after = as_block(upstream[1]);
    const Tensor du = new_segment_rows(h, segments, h.size(0), h.size(1));
    const Tensor da = of_rows ? new_segment_rows(a, segments, a.size(0), a.size(1)) : at::zeros_like(a);
    const Tensor d_before = before.defined() ? at::empty_like(before) : Tensor();
    with_real(h, [&](auto real) {
      using Real = decltype(real);
      const auto scan = scan_of<Real>(a, of_rows);
      const auto states = state_gradients<Real>(segments, d_after, d_before);
      const kernels::DiagonalScanGradientsOf<Real> gradients = {
          .u = rows_out<Real>(du),
          .a = of_rows ? nullptr : values_of<Real>(da),
          .a_rows = of_rows ? rows_out<Real>(da) : kernels::Rows<Real>()};
      if constexpr (std::is_same_v<Real, double>) {
        const auto mutable_states = states_in_double(segments, before);
        const std::vector<const double*> initial(mutable_states.begin(), mutable_states.end());
        kernels::reference::diagonal_scan_backward(scan, rows_in<double>(h), rows_in<double>(dh),
                                                   sequences_of(segments), initial, states, gradients);
      } else {
        const auto sequences = sequences_of(segments, before);
        kernels::diagonal_scan_backward(ComputePool(), scan, rows_in<float>(h), rows_in<float>(dh), sequences, states,
                                        gradients);
      }
    });
    return {du.view(shape), of_rows ? da.view(shape) : da, d_before, Tensor(), Tensor()};
  }
};

}  // namespace

DiagonalScanResult diagonal_scan(const Tensor& u, const Tensor& a, const Segments& segments, const Tensor& state) {
  check_real(u, "u of a diagonal scan");
  check_same_type(a, u, "a of a diagonal scan");
  check_same_type(state, u, "the state of a diagonal scan");
  const std::int64_t columns = u.dim() == 0 ? 0 : u.size(-1);
  if (columns == 0 || columns % 2 != 0) {
    throw UserError(fmt::format("u of a diagonal scan has {} columns", columns),
                    "real parts and as many imaginary parts");
  }
  const bool of_rows = a.dim() != 1;
  check_shape(a, of_rows ? u.sizes() : at::IntArrayRef(columns), "a of a diagonal scan");
  check_shape(state, {static_cast<std::int64_t>(segments.size()), columns}, "the state of a diagonal scan");
  check_segments(segments, u.numel() / columns);
  const tensor_list results = DiagonalScan::apply(u, a, or_none(state), segments, of_rows);
  return {results[0], results[1]};
}

}  // namespace krait::nn
