// Backward beside forward of the scans, at shapes of training: two sequences of 1024 rows. An iteration is one forward
// pass that saves its states and one backward pass; "ratio" is the shortest backward over the shortest forward, so that
// a machine that drifts, or that others use, changes it little. One thread is timed by its processor time.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/random.h"
#include "krait/kernels/saved_chunks.h"
#include "krait/kernels/scan_delta_backward.h"
#include "krait/kernels/scan_trapezoidal_backward.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::pool;
using bench::seconds_of;

constexpr std::int64_t kSequences = 2, kLength = 1024, kRows = kSequences * kLength;

class Numbers {
 public:
  explicit Numbers(std::int64_t rows, std::int64_t columns, double scale = 1.0, double shift = 0.0)
      : rows_(rows), columns_(columns), values_(static_cast<std::size_t>(rows * columns)) {
    Random random(static_cast<std::uint64_t>(rows + columns));
    for (float& v : values_) v = static_cast<float>(shift + scale * random.normal());
  }
  float* data() { return values_.data(); }
  std::byte* bytes() { return reinterpret_cast<std::byte*>(data()); }
  RowsOut rows() { return {data(), rows_, columns_}; }

 private:
  std::int64_t rows_, columns_;
  std::vector<float> values_;
};

template <class Forward, class Backward>
void measure(benchmark::State& state, Forward&& forward, Backward&& backward) {
  double shortest[2] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  for (auto _ : state) {
    shortest[0] = std::min(shortest[0], seconds_of(forward));
    shortest[1] = std::min(shortest[1], seconds_of(backward));
  }
  state.counters["forward_ms"] = 1e3 * shortest[0];
  state.counters["backward_ms"] = 1e3 * shortest[1];
  state.counters["ratio"] = shortest[1] / shortest[0];
}

void DeltaGradientsOfRows(benchmark::State& state) {
  const std::int64_t heads = 16, width = 128, columns = heads * width;
  Numbers q(kRows, columns, 0.01), k(kRows, columns, 0.088), v(kRows, columns), dt(kRows, heads, 0.0, 0.05),
      beta(kRows, heads, 0.0, 0.5), a(1, heads, 0.0, -1.0), o(kRows, columns),
      states(kSequences * heads * width, width);
  Numbers dq(kRows, columns), dk(kRows, columns), dv(kRows, columns), d_dt(kRows, heads), d_beta(kRows, heads),
      da(1, heads);
  const DeltaScan scan = {.key_heads = heads,
                          .value_heads = heads,
                          .key_width = width,
                          .value_width = width,
                          .a = a.data(),
                          .chunk = state.range(0)};
  std::vector<SequenceRows> sequences;
  std::vector<DeltaBackwardSequence> backward;
  for (std::int64_t i = 0; i < kSequences; ++i) {
    sequences.push_back(
        {.first_row = i * kLength,
         .rows = kLength,
         .state = states.bytes() + i * heads * width * width * static_cast<std::int64_t>(sizeof(float))});
    backward.push_back({.first_row = i * kLength, .rows = kLength});
  }
  Numbers saved(saved_chunks_of(sequences, scan.chunk), heads * width * width);
  const DeltaScanInputs in = {.q = q.rows(), .k = k.rows(), .v = v.rows(), .dt = dt.rows(), .beta = beta.rows()};
  measure(
      state, [&] { delta_scan(pool(), scan, in, sequences, o.rows(), saved.data()); },
      [&] {
        delta_scan_backward(
            pool(), scan, in, saved.data(), o.rows(), backward,
            {.q = dq.rows(), .k = dk.rows(), .v = dv.rows(), .dt = d_dt.rows(), .beta = d_beta.rows(), .a = da.data()});
      });
}
BENCHMARK(DeltaGradientsOfRows)->ArgName("chunk")->Arg(16)->Arg(32)->Arg(48)->Arg(64)->UseRealTime();

// Mamba-3 of 24 heads: SISO, or MIMO of rank 4.
void TrapezoidalGradientsOfRows(benchmark::State& state) {
  const std::int64_t rank = state.range(0), heads = 24, width = 64, states = 128, angles = 32;
  TrapezoidalScan scan{.heads = heads,
                       .head_width = width,
                       .states = states,
                       .groups = 1,
                       .rank = rank,
                       .angles = angles,
                       .halves = rank > 1,
                       .chunk = state.range(1)};
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(float));
  scan.angle_offset = kBytes * heads * states * width;
  scan.key_offset = scan.angle_offset + kBytes * heads * angles;
  scan.value_offset = scan.key_offset + kBytes * heads * rank * states;
  const std::int64_t state_bytes = scan.value_offset + kBytes * heads * width;
  const std::vector<std::int64_t> columns = {heads * width, heads * width, rank * states, rank * states,
                                             heads,         heads,         heads,         angles};
  std::vector<Numbers> in, out;
  for (const std::int64_t count : columns) {
    in.emplace_back(kRows, count);
    out.emplace_back(kRows, count);
  }
  Numbers dt_bias(1, heads, 1.0, -4.0), b_norm(1, states), c_norm(1, states), b_bias(heads, rank * states),
      c_bias(heads, rank * states), d(1, heads), value_mix(heads, rank * width), gate_mix(heads, rank * width),
      out_mix(heads, rank * width);
  Numbers d_dt_bias(1, heads), d_b_norm(1, states), d_c_norm(1, states), d_b_bias(heads, rank * states),
      d_c_bias(heads, rank * states), dd(1, heads), d_value_mix(heads, rank * width), d_gate_mix(heads, rank * width),
      d_out_mix(heads, rank * width);
  scan.dt_bias = dt_bias.data();
  scan.b_norm = b_norm.data();
  scan.c_norm = c_norm.data();
  scan.b_bias = b_bias.data();
  scan.c_bias = c_bias.data();
  scan.d = d.data();
  TrapezoidalGradients gradients{.x = out[0].rows(),
                                 .z = out[1].rows(),
                                 .b = out[2].rows(),
                                 .c = out[3].rows(),
                                 .dt = out[4].rows(),
                                 .a = out[5].rows(),
                                 .trap = out[6].rows(),
                                 .angle = out[7].rows(),
                                 .dt_bias = d_dt_bias.data(),
                                 .b_norm = d_b_norm.data(),
                                 .c_norm = d_c_norm.data(),
                                 .b_bias = d_b_bias.data(),
                                 .c_bias = d_c_bias.data(),
                                 .d = dd.data()};
  if (rank > 1) {
    scan.value_mix = value_mix.data();
    scan.gate_mix = gate_mix.data();
    scan.out_mix = out_mix.data();
    gradients.value_mix = d_value_mix.data();
    gradients.gate_mix = d_gate_mix.data();
    gradients.out_mix = d_out_mix.data();
  }
  Numbers initial(kSequences, state_bytes / kBytes, 0.0), running(kSequences, state_bytes / kBytes, 0.0),
      y(kRows, heads * width);
  std::vector<SequenceRows> sequences;
  std::vector<TrapezoidalBackwardSequence> backward;
  for (std::int64_t i = 0; i < kSequences; ++i) {
    sequences.push_back({.first_row = i * kLength, .rows = kLength, .state = running.bytes() + i * state_bytes});
    backward.push_back({.first_row = i * kLength, .rows = kLength, .initial = initial.bytes() + i * state_bytes});
  }
  const std::int64_t chunks = saved_chunks_of(sequences, scan.chunk_rows());
  Numbers saved_s(chunks, heads * states * width), saved_angle(chunks, heads * angles);
  const TrapezoidalSaved saved = {.s = saved_s.data(), .angle = saved_angle.data()};
  const TrapezoidalInputs inputs = {in[0].rows(), in[1].rows(), in[2].rows(), in[3].rows(),
                                    in[4].rows(), in[5].rows(), in[6].rows(), in[7].rows()};
  measure(
      state, [&] { trapezoidal_scan(pool(), scan, inputs, sequences, y.rows(), &saved); },
      [&] { trapezoidal_scan_backward(pool(), scan, inputs, saved, y.rows(), backward, gradients); });
}
BENCHMARK(TrapezoidalGradientsOfRows)->ArgNames({"R", "chunk"})->ArgsProduct({{1, 4}, {32, 64, 128}})->UseRealTime();

}  // namespace
