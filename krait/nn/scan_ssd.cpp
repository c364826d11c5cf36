#include "krait/nn/scan_ssd.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include "krait/kernels/reference/scan_ssd_backward.h"
#include "krait/kernels/scan_ssd_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Saved tensors, in this order.
enum Saved : std::uint8_t { kX, kDt, kA, kB, kC, kD, kBias, kState, kBorders };

struct Sizes {
  std::int64_t groups = 1;
  double low = 0.0, high = 0.0;  // of dt
};

template <class Real>
kernels::SsdScanOf<Real> scan_of(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& d, const Tensor& bias,
                                 const Sizes& sizes) {
  const std::int64_t heads = a.size(0);
  return {.heads = heads,
          .head_width = x.size(1) / heads,
          .states = b.size(1) / sizes.groups,
          .groups = sizes.groups,
          .a = values_of<Real>(a),
          .d = values_of<Real>(d),
          .d_per_channel = d.defined() && d.numel() != heads,
          .dt_bias = values_of<Real>(bias),
          .dt_low = static_cast<Real>(sizes.low),
          .dt_high = static_cast<Real>(sizes.high)};
}

template <class Real>
kernels::SsdScanInputsOf<Real> inputs_of(const Tensor& x, const Tensor& dt, const Tensor& b, const Tensor& c) {
  return {.x = rows_in<Real>(x), .dt = rows_in<Real>(dt), .b = rows_in<Real>(b), .c = rows_in<Real>(c)};
}

template <class Real>
kernels::SsdScanInputsOf<Real> rows_of(const kernels::SsdScanInputsOf<Real>& in, const Segment& segment) {
  const auto [first, rows] = segment;
  return {.x = in.x.slice_rows(first, rows),
          .dt = in.dt.slice_rows(first, rows),
          .b = in.b.slice_rows(first, rows),
          .c = in.c.slice_rows(first, rows)};
}

// States [S, H, N, P] are advanced in place. Returns what backward wants of the states on the way.
Tensor run(const kernels::SsdScan& scan, const kernels::SsdScanInputs& in, const Segments& segments,
           const Tensor& states, const Tensor& y) {
  const auto sequences = sequences_of(segments, states);
  const Tensor borders = at::empty(
      {kernels::ssd_chunk_count(scan.chunk, sequences), scan.heads, scan.states, scan.head_width}, y.options());
  kernels::ssd_scan(ComputePool(), scan, in.x, in.dt, in.b, in.c, sequences, rows_out<float>(y),
                    values_of<float>(borders));
  return borders;
}
Tensor run(const kernels::SsdScanOf<double>& scan, const kernels::SsdScanInputsOf<double>& in, const Segments& segments,
           const Tensor& states, const Tensor& y) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto part = rows_of(in, segments[i]);
    kernels::reference::ssd_scan<double>(scan, part.x, part.dt, part.b, part.c, state_of<double>(states, i),
                                         rows_out<double>(y).slice_rows(segments[i].first_row, segments[i].rows));
  }
  return {};
}

void run_back(const kernels::SsdScan& scan, const kernels::SsdScanInputs& in, const Segments& segments, const Tensor&,
              const Tensor& borders, const Tensor& dy, const std::vector<kernels::SequenceGradients>& states,
              const kernels::SsdScanGradients& gradients) {
  kernels::ssd_scan_backward(ComputePool(), scan, in, sequences_of(segments), values_of<float>(borders),
                             rows_in<float>(dy), states, gradients);
}
void run_back(const kernels::SsdScanOf<double>& scan, const kernels::SsdScanInputsOf<double>& in,
              const Segments& segments, const Tensor& initial, const Tensor&, const Tensor& dy,
              const std::vector<kernels::SequenceGradientsOf<double>>& states,
              const kernels::SsdScanGradientsOf<double>& gradients) {
  const std::vector<double> zeros(static_cast<std::size_t>(scan.heads * scan.states * scan.head_width));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto [first, rows] = segments[i];
    kernels::SsdScanGradientsOf<double> share = gradients;
    for (auto* of : {&share.x, &share.dt, &share.b, &share.c}) *of = of->slice_rows(first, rows);
    kernels::reference::ssd_scan_backward(scan, rows_of(in, segments[i]),
                                          initial.defined() ? state_of<double>(initial, i) : std::span(zeros),
                                          rows_in<double>(dy).slice_rows(first, rows), states[i], share);
  }
}

class SsdScan : public torch::autograd::Function<SsdScan> {
 public:
  // state [S, H, N, P]
  static tensor_list forward(AutogradContext* context, const Tensor& x, const Tensor& dt, const Tensor& a,
                             const Tensor& b, const Tensor& c, const Tensor& d, const Tensor& bias, const Tensor& state,
                             const Segments& segments, const Sizes& sizes) {
    context->set_materialize_grads(false);
    const Tensor a_block = as_block(a), d_block = as_block(d), bias_block = as_block(bias), before = as_block(state);
    const Tensor x_rows = as_rows(x), dt_rows = as_rows(dt), b_rows = as_rows(b), c_rows = as_rows(c);
    const std::int64_t heads = a.size(0);
    Tensor after = states_to_advance(
        before,
        {static_cast<std::int64_t>(segments.size()), heads, b_rows.size(1) / sizes.groups, x_rows.size(1) / heads}, x);
    Tensor y = new_segment_rows(x, segments, x_rows.size(0), x_rows.size(1));
    const Tensor borders = with_real(x, [&](auto real) {
      using Real = decltype(real);
      return run(scan_of<Real>(x_rows, a_block, b_rows, d_block, bias_block, sizes),
                 inputs_of<Real>(x_rows, dt_rows, b_rows, c_rows), segments, after, y);
    });
    context->save_for_backward({x_rows, dt_rows, a_block, b_rows, c_rows, d_block, bias_block, before, borders});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["groups"] = sizes.groups;
    context->saved_data["low"] = sizes.low;
    context->saved_data["high"] = sizes.high;
    context->saved_data["x_shape"] = x.sizes().vec();
    context->saved_data["dt_shape"] = dt.sizes().vec();
    context->saved_data["b_shape"] = b.sizes().vec();
    return {y.view(x.sizes()), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const auto& kept = context->saved_data;
    const Segments segments = from_list(kept.at("segments").toIntVector());
    const Tensor dy = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(saved[kX]);
    const Tensor d_after = as_block(upstream[1]);
    const auto like = [&](const Tensor& of) { return new_segment_rows(of, segments, of.size(0), of.size(1)); };
    const auto sum_like = [&](const Tensor& of) { return of.defined() ? at::zeros_like(of) : Tensor(); };
    Tensor dx = like(saved[kX]), d_dt = like(saved[kDt]), db = like(saved[kB]), dc = like(saved[kC]);
    Tensor da = sum_like(saved[kA]), dd = sum_like(saved[kD]), d_bias = sum_like(saved[kBias]);
    Tensor d_state = saved[kState].defined() ? at::empty_like(saved[kState]) : Tensor();
    const Sizes sizes{kept.at("groups").toInt(), kept.at("low").toDouble(), kept.at("high").toDouble()};
    with_real(dy, [&](auto real) {
      using Real = decltype(real);
      run_back(scan_of<Real>(saved[kX], saved[kA], saved[kB], saved[kD], saved[kBias], sizes),
               inputs_of<Real>(saved[kX], saved[kDt], saved[kB], saved[kC]), segments, saved[kState], saved[kBorders],
               dy, state_gradients<Real>(segments, d_after, d_state),
               {.x = rows_out<Real>(dx),
                .dt = rows_out<Real>(d_dt),
                .b = rows_out<Real>(db),
                .c = rows_out<Real>(dc),
                .a = values_of<Real>(da),
                .d = values_of<Real>(dd),
                .dt_bias = values_of<Real>(d_bias)});
    });
    const auto b_shape = kept.at("b_shape").toIntVector();
    return {dx.view(kept.at("x_shape").toIntVector()),
            d_dt.view(kept.at("dt_shape").toIntVector()),
            da,
            db.view(b_shape),
            dc.view(b_shape),
            dd,
            d_bias,
            d_state,
            Tensor(),
            Tensor()};
  }
};

}  // namespace

ScanResult ssd_scan(const SsdScanInputs& in, const Segments& segments) {
  check_real(in.x, "x of an SSD scan");
  for (const auto& [tensor, name] : {std::pair(&in.dt, "dt"),
                                     {&in.a, "A"},
                                     {&in.b, "B"},
                                     {&in.c, "C"},
                                     {&in.d, "D"},
                                     {&in.dt_bias, "the bias of dt"},
                                     {&in.state, "the state"}}) {
    check_same_type(*tensor, in.x, name);
  }
  const std::int64_t heads = in.a.numel();
  check_shape(in.a, {heads}, "A of an SSD scan");
  const std::int64_t inner = in.x.size(-1), columns = in.b.size(-1);
  if (heads == 0 || inner == 0 || inner % heads != 0) {
    throw UserError(fmt::format("x of an SSD scan has {} columns", inner),
                    fmt::format("its {} heads are of equal width", heads));
  }
  if (in.groups < 1 || heads % in.groups != 0 || columns == 0 || columns % in.groups != 0) {
    throw UserError(fmt::format("{} groups for {} heads and {} columns of B", in.groups, heads, columns),
                    "groups have equal shares of both");
  }
  const auto shape_with = [&](std::int64_t columns) { return shape_with_columns(in.x, columns); };
  check_shape(in.dt, shape_with(heads), "dt of an SSD scan");
  check_shape(in.b, shape_with(columns), "B of an SSD scan");
  check_shape(in.c, shape_with(columns), "C of an SSD scan");
  check_shape(in.d, {in.d.defined() && in.d.numel() == inner ? inner : heads}, "D of an SSD scan");
  check_shape(in.dt_bias, {heads}, "the bias of dt");
  check_shape(in.state, {static_cast<std::int64_t>(segments.size()), heads, inner / heads, columns / in.groups},
              "the state of an SSD scan");
  check_segments(segments, in.x.numel() / inner);
  const Tensor state = in.state.defined() ? in.state.transpose(2, 3) : in.state;
  const tensor_list results = SsdScan::apply(in.x, in.dt, in.a, in.b, in.c, or_none(in.d), or_none(in.dt_bias),
                                             or_none(state), segments, Sizes{in.groups, in.dt_low, in.dt_high});
  return {results[0], results[1].transpose(2, 3)};
}

}  // namespace krait::nn
