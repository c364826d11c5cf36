#include "krait/nn/scan_delta.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#include "krait/kernels/reference/scan_delta_backward.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scan_delta_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/norms.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// Saved tensors, in this order.
enum Saved : std::uint8_t { kQ, kK, kV, kDt, kBeta, kA, kState, kBorders };

template <class Real>
kernels::DeltaScanOf<Real> scan_of(const Tensor& q, const Tensor& v, const Tensor& a, std::int64_t key_heads) {
  return {.key_heads = key_heads,
          .value_heads = a.size(0),
          .key_width = q.size(1) / key_heads,
          .value_width = v.size(1) / a.size(0),
          .a = values_of<Real>(a)};
}

template <class Real>
kernels::DeltaScanInputsOf<Real> inputs_of(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& dt,
                                           const Tensor& beta) {
  return {.q = rows_in<Real>(q),
          .k = rows_in<Real>(k),
          .v = rows_in<Real>(v),
          .dt = rows_in<Real>(dt),
          .beta = rows_in<Real>(beta)};
}

// States [S, Hv, Dk, Dv] are advanced in place. Returns what backward wants of the states on the way.
Tensor run(const kernels::DeltaScan& scan, const kernels::DeltaScanInputs& in, const Segments& segments,
           const Tensor& states, const Tensor& o) {
  const auto sequences = sequences_of(segments, states);
  const Tensor borders =
      at::empty({kernels::saved_chunks_of(sequences, scan.chunk), scan.value_heads, scan.key_width, scan.value_width},
                o.options());
  kernels::delta_scan(ComputePool(), scan, in, sequences, rows_out<float>(o), values_of<float>(borders));
  return borders;
}
Tensor run(const kernels::DeltaScanOf<double>& scan, const kernels::DeltaScanInputsOf<double>& in,
           const Segments& segments, const Tensor& states, const Tensor& o) {
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto cut = [&](const auto& rows) { return rows.slice_rows(segments[i].first_row, segments[i].rows); };
    kernels::reference::delta_scan<double>(
        scan, {.q = cut(in.q), .k = cut(in.k), .v = cut(in.v), .dt = cut(in.dt), .beta = cut(in.beta)},
        state_of<double>(states, i), cut(rows_out<double>(o)));
  }
  return {};
}

template <class Real>
std::vector<kernels::DeltaBackwardSequenceOf<Real>> backward_sequences(const Segments& segments, const Tensor& d_final,
                                                                       const Tensor& d_initial) {
  std::vector<kernels::DeltaBackwardSequenceOf<Real>> sequences;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    sequences.push_back({.first_row = segments[i].first_row,
                         .rows = segments[i].rows,
                         .final_gradient = state_of<Real>(d_final, i).data(),
                         .initial_gradient = state_of<Real>(d_initial, i).data()});
  }
  return sequences;
}

void run_back(const kernels::DeltaScan& scan, const kernels::DeltaScanInputs& in, const Tensor&, const Tensor& borders,
              const Tensor& d_o, const std::vector<kernels::DeltaBackwardSequence>& sequences,
              const kernels::DeltaGradients& gradients) {
  kernels::delta_scan_backward(ComputePool(), scan, in, values_of<float>(borders), rows_in<float>(d_o), sequences,
                               gradients);
}
void run_back(const kernels::DeltaScanOf<double>& scan, const kernels::DeltaScanInputsOf<double>& in,
              const Tensor& initial, const Tensor&, const Tensor& d_o,
              const std::vector<kernels::DeltaBackwardSequenceOf<double>>& sequences,
              const kernels::DeltaGradientsOf<double>& gradients) {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    kernels::reference::delta_scan_backward(scan, in, state_of<double>(initial, i).data(), rows_in<double>(d_o),
                                            sequences[i], gradients);
  }
}

class DeltaScan : public torch::autograd::Function<DeltaScan> {
 public:
  static tensor_list forward(AutogradContext* context, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& dt, const Tensor& beta, const Tensor& a, const Tensor& state,
                             const Segments& segments, std::int64_t key_heads) {
    context->set_materialize_grads(false);
    const Tensor q_rows = as_rows(q), k_rows = as_rows(k), v_rows = as_rows(v), dt_rows = as_rows(dt),
                 beta_rows = as_rows(beta), a_block = as_block(a), before = as_block(state);
    Tensor o = new_segment_rows(v, segments, v_rows.size(0), v_rows.size(1));
    Tensor borders;
    const Tensor after = with_real(v, [&](auto real) {
      using Real = decltype(real);
      const auto scan = scan_of<Real>(q_rows, v_rows, a_block, key_heads);
      const Tensor states = states_to_advance(
          before, {static_cast<std::int64_t>(segments.size()), scan.value_heads, scan.key_width, scan.value_width}, v);
      borders = run(scan, inputs_of<Real>(q_rows, k_rows, v_rows, dt_rows, beta_rows), segments, states, o);
      return states;
    });
    context->save_for_backward({q_rows, k_rows, v_rows, dt_rows, beta_rows, a_block, before, borders});
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["key_heads"] = key_heads;
    context->saved_data["q_shape"] = q.sizes().vec();
    context->saved_data["v_shape"] = v.sizes().vec();
    context->saved_data["dt_shape"] = dt.sizes().vec();
    return {o.view(v.sizes()), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const auto saved = context->get_saved_variables();
    const auto& kept = context->saved_data;
    const Segments segments = from_list(kept.at("segments").toIntVector());
    const Tensor d_o = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(saved[kV]);
    const Tensor d_after = as_block(upstream[1]);
    const auto like = [&](const Tensor& of) { return new_segment_rows(of, segments, of.size(0), of.size(1)); };
    Tensor dq = like(saved[kQ]), dk = like(saved[kK]), dv = like(saved[kV]), d_dt = like(saved[kDt]),
           d_beta = like(saved[kBeta]), da = at::zeros_like(saved[kA]);
    Tensor d_state = saved[kState].defined() ? at::empty_like(saved[kState]) : Tensor();
    with_real(d_o, [&](auto real) {
      using Real = decltype(real);
      run_back(scan_of<Real>(saved[kQ], saved[kV], saved[kA], kept.at("key_heads").toInt()),
               inputs_of<Real>(saved[kQ], saved[kK], saved[kV], saved[kDt], saved[kBeta]), saved[kState],
               saved[kBorders], d_o, backward_sequences<Real>(segments, d_after, d_state),
               {.q = rows_out<Real>(dq),
                .k = rows_out<Real>(dk),
                .v = rows_out<Real>(dv),
                .dt = rows_out<Real>(d_dt),
                .beta = rows_out<Real>(d_beta),
                .a = values_of<Real>(da)});
    });
    const auto q_shape = kept.at("q_shape").toIntVector(), dt_shape = kept.at("dt_shape").toIntVector();
    return {dq.view(q_shape),
            dk.view(q_shape),
            dv.view(kept.at("v_shape").toIntVector()),
            d_dt.view(dt_shape),
            d_beta.view(dt_shape),
            da,
            d_state,
            Tensor(),
            Tensor()};
  }
};

}  // namespace

ScanResult delta_scan(const DeltaScanInputs& in, const Segments& segments) {
  check_real(in.v, "v of a delta rule");
  for (const auto& [tensor, name] : {std::pair(&in.q, "q"),
                                     {&in.k, "k"},
                                     {&in.dt, "dt"},
                                     {&in.beta, "beta"},
                                     {&in.a, "A"},
                                     {&in.state, "the state"}}) {
    check_same_type(*tensor, in.v, name);
  }
  const std::int64_t heads = in.a.numel(), values = in.v.size(-1), keys = in.q.size(-1);
  check_shape(in.a, {heads}, "A of a delta rule");
  if (heads == 0 || values == 0 || values % heads != 0) {
    throw UserError(fmt::format("v of a delta rule has {} columns", values),
                    fmt::format("its {} heads are of equal width", heads));
  }
  if (in.key_heads < 1 || heads % in.key_heads != 0 || keys == 0 || keys % in.key_heads != 0) {
    throw UserError(fmt::format("{} heads of keys for {} of values and {} columns of q", in.key_heads, heads, keys),
                    "heads of keys are of equal width and have equal shares of the heads of values");
  }
  const auto shape_with = [&](std::int64_t columns) { return shape_with_columns(in.v, columns); };
  check_shape(in.q, shape_with(keys), "q of a delta rule");
  check_shape(in.k, shape_with(keys), "k of a delta rule");
  check_shape(in.dt, shape_with(heads), "dt of a delta rule");
  check_shape(in.beta, shape_with(heads), "beta of a delta rule");
  check_shape(in.state, {static_cast<std::int64_t>(segments.size()), heads, keys / in.key_heads, values / heads},
              "the state of a delta rule");
  check_segments(segments, in.v.numel() / values);
  const tensor_list results =
      DeltaScan::apply(in.q, in.k, in.v, in.dt, in.beta, in.a, or_none(in.state), segments, in.key_heads);
  return {results[0], results[1]};
}

// As an RMS norm of each head, sum = D mean.
Tensor normalised_heads(const Tensor& x, std::int64_t heads, double epsilon, double scale) {
  check_real(x, "what is normalised by heads");
  const std::int64_t columns = x.dim() == 0 ? 0 : x.size(-1);
  if (heads < 1 || columns == 0 || columns % heads != 0) {
    throw UserError(fmt::format("{} columns for {} heads", columns, heads), "heads are of equal width");
  }
  const std::int64_t width = columns / heads;
  std::vector<std::int64_t> by_heads = x.sizes().vec();
  by_heads.back() = heads;
  by_heads.push_back(width);
  const auto size = static_cast<double>(width);
  const Tensor weight = at::full({width}, scale / std::sqrt(size), x.options().requires_grad(false));
  return rms_norm(x.reshape(by_heads), weight, epsilon / size).reshape(x.sizes());
}

}  // namespace krait::nn
