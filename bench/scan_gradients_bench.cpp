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

}  // namespace
