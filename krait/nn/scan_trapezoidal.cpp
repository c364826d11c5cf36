#include "krait/nn/scan_trapezoidal.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>

#include "krait/kernels/reference/scan_trapezoidal_backward.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scan_trapezoidal_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

// All that has a gradient, in the order of apply(); then what only backward reads.
enum Place : std::uint8_t {
  kX,
  kZ,
  kB,
  kC,
  kDt,
  kA,
  kTrap,
  kAngle,
  kRowInputs,
  kDtBias = kRowInputs,
  kBNorm,
  kCNorm,
  kBBias,
  kCBias,
  kD,
  kValueMix,
  kGateMix,
  kOutMix,
  kNorm,
  kState,
  kInputs,
  kSavedS = kInputs,
  kSavedAngle,
};

struct Options {
  std::int64_t groups = 1;
  bool halves = false;
  double decay_floor = 0.0, epsilon = 0.0;
};

// The state of a segment is one block: S [H, N, P], the angles, the last key and the last value.
template <class Real>
kernels::TrapezoidalScanOf<Real> scan_of(const tensor_list& in, const Options& options) {
  const Tensor& bias = in[kBBias];
  const std::int64_t heads = bias.size(0), rank = bias.size(1), states = bias.size(2);
  kernels::TrapezoidalScanOf<Real> scan{.heads = heads,
                                        .head_width = in[kX].size(1) / heads,
                                        .states = states,
                                        .groups = options.groups,
                                        .rank = rank,
                                        .angles = in[kAngle].size(1),
                                        .halves = options.halves,
                                        .decay_floor = static_cast<Real>(options.decay_floor),
                                        .epsilon = static_cast<Real>(options.epsilon),
                                        .dt_bias = values_of<Real>(in[kDtBias]),
                                        .b_norm = values_of<Real>(in[kBNorm]),
                                        .c_norm = values_of<Real>(in[kCNorm]),
                                        .b_bias = values_of<Real>(in[kBBias]),
                                        .c_bias = values_of<Real>(in[kCBias]),
                                        .d = values_of<Real>(in[kD]),
                                        .value_mix = values_of<Real>(in[kValueMix]),
                                        .gate_mix = values_of<Real>(in[kGateMix]),
                                        .out_mix = values_of<Real>(in[kOutMix]),
                                        .norm = values_of<Real>(in[kNorm])};
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Real));
  scan.angle_offset = kBytes * heads * states * scan.head_width;
  scan.key_offset = scan.angle_offset + kBytes * heads * scan.angles;
  scan.value_offset = scan.key_offset + kBytes * heads * rank * states;
  return scan;
}

template <class Real>
std::int64_t state_values(const kernels::TrapezoidalScanOf<Real>& scan) {
  return scan.value_offset / static_cast<std::int64_t>(sizeof(Real)) + scan.heads * scan.head_width;
}

template <class Real>
kernels::TrapezoidalInputsOf<Real> inputs_of(const tensor_list& in) {
  return {.x = rows_in<Real>(in[kX]),
          .z = rows_in<Real>(in[kZ]),
          .b = rows_in<Real>(in[kB]),
          .c = rows_in<Real>(in[kC]),
          .dt = rows_in<Real>(in[kDt]),
          .a = rows_in<Real>(in[kA]),
          .trap = rows_in<Real>(in[kTrap]),
          .angle = rows_in<Real>(in[kAngle])};
}

// States [S, values] are advanced in place. Returns what backward wants of the states on the way, S and the angles.
std::array<Tensor, 2> run(const kernels::TrapezoidalScan& scan, const kernels::TrapezoidalInputs& in,
                          const Segments& segments, const Tensor& states, const Tensor& y) {
  const auto sequences = sequences_of(segments, states);
  const std::int64_t chunks = kernels::saved_chunks_of(sequences, scan.chunk_rows());
  const Tensor s = at::empty({chunks, scan.heads, scan.states, scan.head_width}, y.options());
  const Tensor angle = at::empty({chunks, scan.heads, scan.angles}, y.options());
  const kernels::TrapezoidalSaved saved{.s = values_of<float>(s), .angle = values_of<float>(angle)};
  kernels::trapezoidal_scan(ComputePool(), scan, in, sequences, rows_out<float>(y), &saved);
  return {s, angle};
}
std::array<Tensor, 2> run(const kernels::TrapezoidalScanOf<double>& scan,
                          const kernels::TrapezoidalInputsOf<double>& in, const Segments& segments,
                          const Tensor& states, const Tensor& y) {
  const Tensor magnitude = at::empty_like(y);  // of the oracle's error bound; not used here
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto cut = [&](const auto& rows) { return rows.slice_rows(segments[i].first_row, segments[i].rows); };
    kernels::reference::TrapezoidalState state(scan);
    const std::array<std::vector<double>*, 4> parts = {&state.state, &state.angle, &state.key, &state.value};
    double* values = state_of<double>(states, i).data();
    for (double* from = values; std::vector<double> * part : parts) {
      std::copy_n(from, part->size(), part->data());
      from += part->size();
    }
    kernels::reference::trapezoidal_scan<double>(scan,
                                                 {.x = cut(in.x),
                                                  .z = cut(in.z),
                                                  .b = cut(in.b),
                                                  .c = cut(in.c),
                                                  .dt = cut(in.dt),
                                                  .a = cut(in.a),
                                                  .trap = cut(in.trap),
                                                  .angle = cut(in.angle)},
                                                 state, cut(rows_out<double>(y)), cut(rows_out<double>(magnitude)));
    for (double* to = values; const std::vector<double>* part : parts) to = std::copy(part->begin(), part->end(), to);
  }
  return {};
}

template <class Real>
std::vector<kernels::TrapezoidalBackwardSequenceOf<Real>> backward_sequences(const Segments& segments,
                                                                             const Tensor& initial,
                                                                             const Tensor& d_final,
                                                                             const Tensor& d_initial) {
  std::vector<kernels::TrapezoidalBackwardSequenceOf<Real>> sequences;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto bytes = [&](const Tensor& states) {
      return reinterpret_cast<std::byte*>(state_of<Real>(states, i).data());
    };
    sequences.push_back({.first_row = segments[i].first_row,
                         .rows = segments[i].rows,
                         .initial = bytes(initial),
                         .final_gradient = bytes(d_final),
                         .initial_gradient = bytes(d_initial)});
  }
  return sequences;
}

void run_back(const kernels::TrapezoidalScan& scan, const kernels::TrapezoidalInputs& in, const tensor_list& saved,
              const Tensor& dy, const std::vector<kernels::TrapezoidalBackwardSequence>& sequences,
              const kernels::TrapezoidalGradients& gradients) {
  kernels::trapezoidal_scan_backward(
      ComputePool(), scan, in, {.s = values_of<float>(saved[kSavedS]), .angle = values_of<float>(saved[kSavedAngle])},
      rows_in<float>(dy), sequences, gradients);
}
void run_back(const kernels::TrapezoidalScanOf<double>& scan, const kernels::TrapezoidalInputsOf<double>& in,
              const tensor_list&, const Tensor& dy,
              const std::vector<kernels::TrapezoidalBackwardSequenceOf<double>>& sequences,
              const kernels::TrapezoidalGradientsOf<double>& gradients) {
  for (const auto& sequence : sequences) {
    kernels::reference::trapezoidal_scan_backward(scan, in, rows_in<double>(dy), sequence, gradients);
  }
}

class TrapezoidalScan : public torch::autograd::Function<TrapezoidalScan> {
 public:
  // As many tensors as kInputs, in that order; the state [S, values].
  static tensor_list forward(AutogradContext* context, at::TensorList tensors, const Segments& segments,
                             const Options& options) {
    context->set_materialize_grads(false);
    tensor_list in = tensors.vec();
    context->saved_data["shapes"] = shapes_of(in);
    const std::vector<std::int64_t> shape = in[kX].sizes().vec();
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = i < kRowInputs ? as_rows(in[i]) : as_block(in[i]);
    Tensor y = new_segment_rows(in[kX], segments, in[kX].size(0), in[kX].size(1));
    const Tensor after = with_real(y, [&](auto real) {
      const auto scan = scan_of<decltype(real)>(in, options);
      const Tensor states =
          states_to_advance(in[kState], {static_cast<std::int64_t>(segments.size()), state_values(scan)}, y);
      const auto borders = run(scan, inputs_of<decltype(real)>(in), segments, states, y);
      in.insert(in.end(), borders.begin(), borders.end());
      return states;
    });
    context->save_for_backward(in);
    context->saved_data["segments"] = to_list(segments);
    context->saved_data["groups"] = options.groups;
    context->saved_data["halves"] = options.halves;
    context->saved_data["decay_floor"] = options.decay_floor;
    context->saved_data["epsilon"] = options.epsilon;
    return {y.view(shape), after};
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const tensor_list saved = context->get_saved_variables();
    const auto& kept = context->saved_data;
    const Segments segments = from_list(kept.at("segments").toIntVector());
    const Options options{kept.at("groups").toInt(), kept.at("halves").toBool(), kept.at("decay_floor").toDouble(),
                          kept.at("epsilon").toDouble()};
    const Tensor dy = upstream[0].defined() ? as_rows(upstream[0]) : at::zeros_like(saved[kX]);
    const Tensor d_after = as_block(upstream[1]);
    tensor_list to(kInputs);
    for (std::size_t i = 0; i < kInputs; ++i) {
      if (!saved[i].defined()) continue;
      to[i] = i < kRowInputs ? new_segment_rows(saved[i], segments, saved[i].size(0), saved[i].size(1))
                             : at::zeros_like(saved[i]);
    }
    with_real(dy, [&](auto real) {
      using Real = decltype(real);
      run_back(scan_of<Real>(saved, options), inputs_of<Real>(saved), saved, dy,
               backward_sequences<Real>(segments, saved[kState], d_after, to[kState]),
               kernels::TrapezoidalGradientsOf<Real>{.x = rows_out<Real>(to[kX]),
                                                     .z = rows_out<Real>(to[kZ]),
                                                     .b = rows_out<Real>(to[kB]),
                                                     .c = rows_out<Real>(to[kC]),
                                                     .dt = rows_out<Real>(to[kDt]),
                                                     .a = rows_out<Real>(to[kA]),
                                                     .trap = rows_out<Real>(to[kTrap]),
                                                     .angle = rows_out<Real>(to[kAngle]),
                                                     .dt_bias = values_of<Real>(to[kDtBias]),
                                                     .b_norm = values_of<Real>(to[kBNorm]),
                                                     .c_norm = values_of<Real>(to[kCNorm]),
                                                     .b_bias = values_of<Real>(to[kBBias]),
                                                     .c_bias = values_of<Real>(to[kCBias]),
                                                     .d = values_of<Real>(to[kD]),
                                                     .value_mix = values_of<Real>(to[kValueMix]),
                                                     .gate_mix = values_of<Real>(to[kGateMix]),
                                                     .out_mix = values_of<Real>(to[kOutMix]),
                                                     .norm = values_of<Real>(to[kNorm])});
    });
    const auto shapes = kept.at("shapes").toList();
    for (std::size_t i = 0; i < kRowInputs; ++i) to[i] = to[i].view(shapes.get(i).toIntVector());
    to.resize(kInputs + 2);  // nothing for the segments and options
    return to;
  }

 private:
  static c10::List<std::vector<std::int64_t>> shapes_of(const tensor_list& in) {
    c10::List<std::vector<std::int64_t>> shapes;
    for (std::size_t i = 0; i < kRowInputs; ++i) shapes.push_back(in[i].sizes().vec());
    return shapes;
  }
};

void check_inputs(const TrapezoidalScanInputs& in, const Segments& segments) {
  check_real(in.x, "x of a Mamba-3 scan");
  const auto& [s, state_angle, key, value] = in.state;
  for (const auto& [tensor, name, needed] : std::initializer_list<std::tuple<const Tensor&, const char*, bool>>{
           {in.z, "z", true},
           {in.b, "B", true},
           {in.c, "C", true},
           {in.dt, "dt", true},
           {in.a, "A", true},
           {in.trap, "trap", true},
           {in.angle, "the angle", true},
           {in.dt_bias, "the bias of dt", true},
           {in.b_norm, "B's norm", true},
           {in.c_norm, "C's norm", true},
           {in.b_bias, "B's bias", true},
           {in.c_bias, "C's bias", true},
           {in.d, "D", true},
           {in.value_mix, "the mix of values", false},
           {in.gate_mix, "the mix of gates", false},
           {in.out_mix, "the mix of outputs", false},
           {in.norm, "the norm", false},
           {s, "the state", state_angle.defined() || key.defined() || value.defined()},
           {state_angle, "the state's angle", s.defined()},
           {key, "the state's key", s.defined()},
           {value, "the state's value", s.defined()}}) {
    if (needed && !tensor.defined()) {
      throw UserError(fmt::format("a Mamba-3 scan without {}", name),
                      "only mixes, the norm and the whole state may be");
    }
    check_same_type(tensor, in.x, name);
  }
  if (in.b_bias.dim() != 3 || in.b_bias.numel() == 0 || in.b_bias.size(2) % 2 != 0) {
    throw UserError(fmt::format("B's bias has shape [{}]", fmt::join(in.b_bias.sizes(), ", ")),
                    "its shape must be [heads, rank, states], states even");
  }
  const std::int64_t heads = in.b_bias.size(0), rank = in.b_bias.size(1), states = in.b_bias.size(2);
  const std::int64_t inner = in.x.dim() == 0 ? 0 : in.x.size(-1);
  const std::int64_t angles = in.angle.dim() == 0 ? 0 : in.angle.size(-1);
  const auto count = static_cast<std::int64_t>(segments.size());
  if (inner == 0 || inner % heads != 0) {
    throw UserError(fmt::format("x of a Mamba-3 scan has {} columns", inner),
                    fmt::format("its {} heads are of equal width", heads));
  }
  if (in.groups < 1 || heads % in.groups != 0) {
    throw UserError(fmt::format("{} groups of {} heads", in.groups, heads), "groups have equal shares of the heads");
  }
  if (angles < 1 || 2 * angles > states) {
    throw UserError(fmt::format("{} angles for {} states", angles, states), "each angle turns a pair of states");
  }
  const std::int64_t width = inner / heads;
  const auto shape_with = [&](std::int64_t columns) { return shape_with_columns(in.x, columns); };
  check_shape(in.z, in.x.sizes(), "z of a Mamba-3 scan");
  check_shape(in.b, shape_with(rank * in.groups * states), "B of a Mamba-3 scan");
  check_shape(in.c, shape_with(rank * in.groups * states), "C of a Mamba-3 scan");
  check_shape(in.dt, shape_with(heads), "dt of a Mamba-3 scan");
  check_shape(in.a, shape_with(heads), "A of a Mamba-3 scan");
  check_shape(in.trap, shape_with(heads), "trap of a Mamba-3 scan");
  check_shape(in.angle, shape_with(angles), "the angle of a Mamba-3 scan");
  check_shape(in.dt_bias, {heads}, "the bias of dt");
  check_shape(in.d, {heads}, "D of a Mamba-3 scan");
  check_shape(in.b_norm, {states}, "B's norm");
  check_shape(in.c_norm, {states}, "C's norm");
  check_shape(in.c_bias, in.b_bias.sizes(), "C's bias");
  for (const Tensor* mix : {&in.value_mix, &in.gate_mix, &in.out_mix}) {
    check_shape(*mix, {heads, rank, width}, "a mix of a Mamba-3 scan");
  }
  check_shape(in.norm, {inner}, "the norm of a Mamba-3 scan");
  check_shape(s, {count, heads, width, states}, "the state of a Mamba-3 scan");
  check_shape(state_angle, {count, heads, angles}, "the state's angle");
  check_shape(key, {count, heads, rank, states}, "the state's key");
  check_shape(value, {count, heads, width}, "the state's value");
  check_segments(segments, in.x.numel() / inner);
}

}  // namespace

TrapezoidalScanResult trapezoidal_scan(const TrapezoidalScanInputs& in, const Segments& segments) {
  check_inputs(in, segments);
  const std::int64_t heads = in.b_bias.size(0), rank = in.b_bias.size(1), states = in.b_bias.size(2);
  const std::int64_t width = in.x.size(-1) / heads, angles = in.angle.size(-1);
  Tensor state;
  if (in.state.s.defined()) {
    state = at::cat({in.state.s.transpose(2, 3).flatten(1), in.state.angle.flatten(1), in.state.key.flatten(1),
                     in.state.value.flatten(1)},
                    1);
  }
  const tensor_list tensors = {in.x,
                               in.z,
                               in.b,
                               in.c,
                               in.dt,
                               in.a,
                               in.trap,
                               in.angle,
                               in.dt_bias,
                               in.b_norm,
                               in.c_norm,
                               in.b_bias,
                               in.c_bias,
                               in.d,
                               or_none(in.value_mix),
                               or_none(in.gate_mix),
                               or_none(in.out_mix),
                               or_none(in.norm),
                               or_none(state)};
  const tensor_list results = TrapezoidalScan::apply(at::TensorList(tensors), segments,
                                                     Options{in.groups, in.halves, in.decay_floor, in.epsilon});
  const auto parts =
      results[1].split_with_sizes({heads * states * width, heads * angles, heads * rank * states, heads * width}, 1);
  const auto count = static_cast<std::int64_t>(segments.size());
  return {.y = results[0],
          .state = {.s = parts[0].reshape({count, heads, states, width}).transpose(2, 3),
                    .angle = parts[1].reshape({count, heads, angles}),
                    .key = parts[2].reshape({count, heads, rank, states}),
                    .value = parts[3].reshape({count, heads, width})}};
}

}  // namespace krait::nn
