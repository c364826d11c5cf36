// Time-invariant layers as S4D trains them: batch 4, 128 channels, 64 states, 1024 rows, forward and backward, and the
// 16384 rows of Path-X. GFLOP/s are not given: transforms are bound by the caches.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/random.h"
#include "krait/kernels/long_convolution_backward.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::pool;

std::vector<float> normals(std::int64_t count, double scale = 1.0) {
  Random random(static_cast<std::uint64_t>(count));
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& v : values) v = static_cast<float>(scale * random.normal());
  return values;
}

struct Batch {
  std::int64_t rows, channels;
  std::vector<float> x, up, y, kernel, d;
  std::vector<SequenceRows> sequences;
  LongConvolution convolution;

  explicit Batch(const benchmark::State& state)
      : rows(state.range(0) * state.range(1)),
        channels(state.range(2)),
        x(normals(rows * channels)),
        up(normals(rows * channels)),
        y(x),
        kernel(normals(channels * state.range(1), 0.1)),
        d(normals(channels)) {
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      sequences.push_back({.first_row = i * state.range(1), .rows = state.range(1), .state = nullptr});
    }
    convolution = {.kernel = {kernel.data(), channels, state.range(1)}, .ahead = {}, .first_ahead = 0, .d = d.data()};
  }
};

void LongConvolutionForward(benchmark::State& state) {
  Batch b(state);
  for (auto _ : state) {
    long_convolution(pool(), b.convolution, {b.x.data(), b.rows, b.channels}, b.sequences,
                     {b.y.data(), b.rows, b.channels});
  }
}
void LongConvolutionBackward(benchmark::State& state) {
  Batch b(state);
  std::vector<float> dkernel = b.kernel, dd = b.d;
  for (auto _ : state) {
    long_convolution_backward(pool(), b.convolution, {b.x.data(), b.rows, b.channels},
                              {b.up.data(), b.rows, b.channels}, b.sequences,
                              {.x = {b.y.data(), b.rows, b.channels},
                               .kernel = {dkernel.data(), b.channels, state.range(1)},
                               .ahead = {},
                               .d = dd.data()});
  }
}
void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"B", "T", "C"})->Args({4, 1024, 128})->Args({2, 1024, 1536})->Args({1, 16384, 128})->UseRealTime();
}
BENCHMARK(LongConvolutionForward)->Apply(shapes);
BENCHMARK(LongConvolutionBackward)->Apply(shapes);

}  // namespace
