#include "krait/nn/scan_selective.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/reference/scan_selective_backward.h"
#include "krait/kernels/scan_selective_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Saved tensors, in this order; the kernel's layouts, [N, E] of A and the states.
enum Saved : std::uint8_t { kX, kDt, kA, kB, kC, kD, kZ, kBias, kState, kBorders };

template <class Real>
kernels::SelectiveScanOf<Real> scan_of(const Tensor& a, const Tensor& b, const Tensor& d, const Tensor& bias,
                                       bool softplus) {
  return {.channels = a.size(1),
          .states = a.size(0),
          .groups = b.size(1) / std::max<std::int64_t>(1, a.size(0)),
          .a = values_of<Real>(a),
          .d = values_of<Real>(d),
          .dt_bias = values_of<Real>(bias),
          .dt_softplus = softplus};
}

template <class Real>
kernels::SelectiveScanInputsOf<Real> inputs_of(const Tensor& x, const Tensor& dt, const Tensor& b, const Tensor& c,
                                               const Tensor& z) {
  return {.x = rows_in<Real>(x),
          .dt = rows_in<Real>(dt),
          .b = rows_in<Real>(b),
          .c = rows_in<Real>(c),
          .z = rows_in<Real>(z)};
}

template <class Real>
kernels::SelectiveScanInputsOf<Real> rows_of(const kernels::SelectiveScanInputsOf<Real>& in, const Segment& segment) {
  const auto [first, rows] = segment;
  return {.x = in.x.slice_rows(first, rows),
          .dt = in.dt.slice_rows(first, rows),
          .b = in.b.slice_rows(first, rows),
          .c = in.c.slice_rows(first, rows),
          .z = in.z.empty() ? in.z : in.z.slice_rows(first, rows)};
}

// States [S, N, E] are advanced in place. Returns what backward wants of the states on the way.
Tensor run(const kernels::SelectiveScan& scan, const kernels::SelectiveScanInputs& in, const Segments& segments,
           const Tensor& states, const Tensor& y, bool save) {
  const auto sequences = sequences_of(segments, states);
  Tensor borders;
  if (save) borders = at::empty({kernels::selective_chunks(sequences), scan.states, scan.channels}, y.options());
  kernels::selective_scan(ComputePool(), scan, in.x, in.dt, in.b, in.c, in.z, sequences, rows_out<float>(y),
                          values_of<float>(borders));
  return borders;
}
Tensor run(const kernels::SelectiveScanOf<double>& scan, const kernels::SelectiveScanInputsOf<double>& in,
           const Segments& segments, const Tensor& states, const Tensor& y, bool) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto part = rows_of(in, segments[i]);
    kernels::reference::selective_scan<double>(scan, part.x, part.dt, part.b, part.c, part.z,
                                               state_of<double>(states, i),
                                               rows_out<double>(y).slice_rows(segments[i].first_row, segments[i].rows));
  }
  return {};
}

void run_back(const kernels::SelectiveScan& scan, const kernels::SelectiveScanInputs& in, const Segments& segments,
              const Tensor&, const Tensor& borders, const Tensor& dy,
              const std::vector<kernels::SequenceGradients>& states, const kernels::SelectiveScanGradients& gradients) {
  kernels::selective_scan_backward(ComputePool(), scan, in, sequences_of(segments), values_of<float>(borders),
                                   rows_in<float>(dy), states, gradients);
}
void run_back(const kernels::SelectiveScanOf<double>& scan, const kernels::SelectiveScanInputsOf<double>& in,
              const Segments& segments, const Tensor& initial, const Tensor&, const Tensor& dy,
              const std::vector<kernels::SequenceGradientsOf<double>>& states,
              const kernels::SelectiveScanGradientsOf<double>& gradients) {
  const std::vector<double> zeros(static_cast<std::size_t>(scan.states * scan.channels));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto [first, rows] = segments[i];
    kernels::SelectiveScanGradientsOf<double> share = gradients;
    for (auto* of : {&share.x, &share.dt, &share.b, &share.c, &share.z}) {
      if (!of->empty()) *of = of->slice_rows(first, rows);
    }
    kernels::reference::selective_scan_backward(scan, rows_of(in, segments[i]),
                                                initial.defined() ? state_of<double>(initial, i) : std::span(zeros),
                                                rows_in<double>(dy).slice_rows(first, rows), states[i], share);
  }
}

class SelectiveScan : public torch::autograd::Function<SelectiveScan> {
 public:
  // a [N, E], state [S, N, E]
  static tensor_list forward(AutogradContext* context, const Tensor& x, const Tensor& dt, const Tensor& a,
                             const Tensor& b, const Tensor& c, const Tensor& d, const Tensor& z, const Tensor& bias,
                             const Tensor& state, const Segments& segments, bool softplus) {
    context->set_materialize_grads(false);
    const Tensor a_block = as_block(a), d_block = as_block(d), bias_block = as_block(bias);
    const Tensor before = as_block(state);
    const Tensor x_rows = as_rows(x), dt_rows = as_rows(dt), b_rows = as_rows(b), c_rows = as_rows(c),
                 z_rows = as_rows(z);
    Tensor after =
        states_to_advance(before, {static_cast<std::int64_t>(segments.size()), a_block.size(0), a_block.size(1)}, x);
    Tensor y = new_segment_rows(x, segments, x_rows.size(0), x_rows.size(1));
    const Tensor borders = with_real(x, [&](auto real) {
      using Real = decltype(real);
      return run(scan_of<Real>(a_block, b_rows, d_block, bias_block, softplus),
                 inputs_of<Real>(x_rows, dt_rows, b_rows, c_rows, z_rows), segments, after, y, true);
    });
    context->save_for_backward(
        {x_rows, dt_rows, a_block, b_rows, c_rows, d_block, z_rows, bias_block, before, borders});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["softplus"] = softplus;
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["group_shape"] = b.sizes().vec();
    return {y.view(x.sizes()), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const Segments segments = from_list(context->saved_data["segments"].toIntVector());
    const Tensor dy = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(saved[kX]);
    const Tensor d_after = as_block(upstream[1]);
    const auto like = [&](const Tensor& of) {
      return of.defined() ? new_segment_rows(of, segments, of.size(0), of.size(1)) : Tensor();
    };
    const auto sum_like = [&](const Tensor& of) { return of.defined() ? at::zeros_like(of) : Tensor(); };
    Tensor dx = like(saved[kX]), d_dt = like(saved[kDt]), db = like(saved[kB]), dc = like(saved[kC]),
           dz = like(saved[kZ]);
    Tensor da = sum_like(saved[kA]), dd = sum_like(saved[kD]), d_bias = sum_like(saved[kBias]);
    Tensor d_state = saved[kState].defined() ? at::empty_like(saved[kState]) : Tensor();
    with_real(dy, [&](auto real) {
      using Real = decltype(real);
      run_back(scan_of<Real>(saved[kA], saved[kB], saved[kD], saved[kBias], context->saved_data["softplus"].toBool()),
               inputs_of<Real>(saved[kX], saved[kDt], saved[kB], saved[kC], saved[kZ]), segments, saved[kState],
               saved[kBorders], dy, state_gradients<Real>(segments, d_after, d_state),
               {.x = rows_out<Real>(dx),
                .dt = rows_out<Real>(d_dt),
                .b = rows_out<Real>(db),
                .c = rows_out<Real>(dc),
                .z = rows_out<Real>(dz),
                .a = values_of<Real>(da),
                .d = values_of<Real>(dd),
                .dt_bias = values_of<Real>(d_bias)});
    });
    const auto shape = context->saved_data["shape"].toIntVector();
    const auto group_shape = context->saved_data["group_shape"].toIntVector();
    return {dx.view(shape),
            d_dt.view(shape),
            da,
            db.view(group_shape),
            dc.view(group_shape),
            dd,
            dz.defined() ? dz.view(shape) : dz,
            d_bias,
            d_state,
            Tensor(),
            Tensor()};
  }
};

}  // namespace

ScanResult selective_scan(const SelectiveScanInputs& in, const Segments& segments) {
  check_real(in.x, "x of a selective scan");
  for (const auto& [tensor, name] : {std::pair(&in.dt, "dt"),
                                     {&in.a, "A"},
                                     {&in.b, "B"},
                                     {&in.c, "C"},
                                     {&in.d, "D"},
                                     {&in.z, "z"},
                                     {&in.dt_bias, "the bias of dt"},
                                     {&in.state, "the state"}}) {
    check_same_type(*tensor, in.x, name);
  }
  if (in.a.dim() != 2 || in.a.size(0) == 0 || in.a.size(1) == 0) {
    throw UserError(fmt::format("A of a selective scan has shape [{}]", fmt::join(in.a.sizes(), ", ")),
                    "its shape must be [channels, states]");
  }
  const std::int64_t channels = in.a.size(0), states = in.a.size(1);
  check_columns(in.x, channels, "x of a selective scan");
  check_shape(in.dt, in.x.sizes(), "dt of a selective scan");
  check_shape(in.z, in.x.sizes(), "z of a selective scan");
  check_shape(in.d, {channels}, "D of a selective scan");
  check_shape(in.dt_bias, {channels}, "the bias of dt");
  check_shape(in.state, {static_cast<std::int64_t>(segments.size()), channels, states},
              "the state of a selective scan");
  const std::vector<std::int64_t> group_shape = shape_with_columns(in.x, in.b.size(-1));
  const std::int64_t groups = in.b.size(-1) / states;
  if (groups == 0 || in.b.size(-1) % states != 0 || channels % groups != 0) {
    throw UserError(fmt::format("B has {} columns", in.b.size(-1)),
                    fmt::format("it must be groups x {} states, with {} channels in equal groups", states, channels));
  }
  check_shape(in.b, group_shape, "B of a selective scan");
  check_shape(in.c, group_shape, "C of a selective scan");
  check_segments(segments, in.x.numel() / channels);
  const Tensor state = in.state.defined() ? in.state.transpose(1, 2) : in.state;
  tensor_list results = SelectiveScan::apply(in.x, in.dt, in.a.t(), in.b, in.c, or_none(in.d), or_none(in.z),
                                             or_none(in.dt_bias), or_none(state), segments, in.dt_softplus);
  return {results[0], results[1].transpose(1, 2)};
}

}  // namespace krait::nn
