// Time-invariant layers as S4D trains them: batch 4, 128 channels, 64 states, 1024 rows, forward and backward, and the
// 16384 rows of Path-X. GFLOP/s are not given: transforms are bound by the caches.
#include <benchmark/benchmark.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/random.h"
#include "krait/kernels/hippo.h"
#include "krait/kernels/long_convolution_backward.h"
#include "krait/kernels/s4_kernel_backward.h"
#include "krait/kernels/s4d_kernel_backward.h"
#include "krait/kernels/scan_diagonal_backward.h"
#include "krait/kernels/scan_s4d_backward.h"

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

// dt between 1e-3 and 1e-1.
std::vector<float> log_steps(std::int64_t channels) {
  Random random(1);
  std::vector<float> values(static_cast<std::size_t>(channels));
  for (float& v : values) v = static_cast<float>(std::log(1e-3) + random.uniform() * std::log(1e2));
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

// S4D-Lin, M states of N = 2 M.
struct Diagonal {
  std::int64_t channels, states, length;
  std::vector<float> log_dt, log_decay, frequency, c, kernel;
  S4dKernel parameters;

  explicit Diagonal(const benchmark::State& state) : Diagonal(state.range(0), state.range(1), state.range(2)) {}
  Diagonal(std::int64_t channel_count, std::int64_t state_count, std::int64_t kernel_length)
      : channels(channel_count), states(state_count), length(kernel_length), log_dt(log_steps(channels)) {
    for (std::int64_t n = 0; n < states; ++n) {
      log_decay.push_back(std::log(0.5F));
      frequency.push_back(std::numbers::pi_v<float> * static_cast<float>(n));
    }
    c = normals(2 * channels * states);
    kernel = normals(channels * length);
    parameters = {.channels = channels,
                  .states = states,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .b = nullptr,
                  .c = c.data()};
  }
};

void S4dKernelForward(benchmark::State& state) {
  Diagonal d(state);
  for (auto _ : state) s4d_kernel(pool(), d.parameters, {d.kernel.data(), d.channels, d.length});
}
void S4dKernelBackward(benchmark::State& state) {
  Diagonal d(state), gradients(state);
  for (auto _ : state) {
    s4d_kernel_backward(pool(), d.parameters, {d.kernel.data(), d.channels, d.length},
                        {.log_dt = gradients.log_dt.data(),
                         .log_decay = gradients.log_decay.data(),
                         .frequency = gradients.frequency.data(),
                         .b = nullptr,
                         .c = gradients.c.data()});
  }
}
// S4-LegS.
struct LessLowRank {
  std::int64_t channels, states, length;
  std::vector<float> log_dt, log_decay, frequency, p, b, c, kernel;
  S4Kernel parameters;

  explicit LessLowRank(const benchmark::State& state)
      : channels(state.range(0)), states(state.range(1)), length(state.range(2)), log_dt(log_steps(channels)) {
    const DiagonalLessLowRank parts = hippo_diagonal(Hippo::kLegS, 2 * states);
    for (std::size_t n = 0; n < parts.lambda.size(); ++n) {
      log_decay.push_back(static_cast<float>(std::log(-parts.lambda[n].real())));
      frequency.push_back(static_cast<float>(parts.lambda[n].imag()));
      for (const double v : {parts.p[0][n].real(), parts.p[0][n].imag()}) p.push_back(static_cast<float>(v));
      for (const double v : {parts.b[n].real(), parts.b[n].imag()}) b.push_back(static_cast<float>(v));
    }
    c = normals(2 * channels * states);
    kernel = normals(channels * length);
    parameters = {.channels = channels,
                  .states = states,
                  .log_dt = log_dt.data(),
                  .log_decay = log_decay.data(),
                  .frequency = frequency.data(),
                  .p = p.data(),
                  .b = b.data(),
                  .c = c.data()};
  }
};

void S4KernelForward(benchmark::State& state) {
  LessLowRank s(state);
  for (auto _ : state) s4_kernel(pool(), s.parameters, {s.kernel.data(), s.channels, s.length});
}
void S4KernelBackward(benchmark::State& state) {
  LessLowRank s(state), gradients(state);
  for (auto _ : state) {
    s4_kernel_backward(pool(), s.parameters, {s.kernel.data(), s.channels, s.length},
                       {.log_dt = gradients.log_dt.data(),
                        .log_decay = gradients.log_decay.data(),
                        .frequency = gradients.frequency.data(),
                        .p = gradients.p.data(),
                        .b = gradients.b.data(),
                        .c = gradients.c.data()});
  }
}
void kernel_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"H", "M", "L"})->Args({128, 32, 1024})->Args({128, 32, 16384})->UseRealTime();
}
BENCHMARK(S4dKernelForward)->Apply(kernel_shapes);
BENCHMARK(S4dKernelBackward)->Apply(kernel_shapes);
BENCHMARK(S4KernelForward)->Apply(kernel_shapes);
BENCHMARK(S4KernelBackward)->Apply(kernel_shapes);

// S5's scan, of complex numbers: B sequences, N states.
struct Scan {
  std::int64_t rows, width;
  std::vector<float> u, h, up, a, da;
  std::vector<SequenceRows> sequences;
  DiagonalScan scan;

  explicit Scan(const benchmark::State& state)
      : rows(state.range(0) * state.range(1)),
        width(2 * state.range(2)),
        u(normals(rows * width)),
        h(u),
        up(u),
        a(static_cast<std::size_t>(width), 0.7F),
        da(a) {
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      sequences.push_back({.first_row = i * state.range(1), .rows = state.range(1), .state = nullptr});
    }
    scan = {.states = state.range(2), .a = a.data(), .a_rows = {}};
  }
};

void DiagonalScanForward(benchmark::State& state) {
  Scan s(state);
  for (auto _ : state) {
    diagonal_scan(pool(), s.scan, {s.u.data(), s.rows, s.width}, s.sequences, {s.h.data(), s.rows, s.width});
  }
}
void DiagonalScanBackward(benchmark::State& state) {
  Scan s(state);
  for (auto _ : state) {
    diagonal_scan_backward(pool(), s.scan, {s.h.data(), s.rows, s.width}, {s.up.data(), s.rows, s.width}, s.sequences,
                           {}, {.u = {s.u.data(), s.rows, s.width}, .a = s.da.data(), .a_rows = {}});
  }
}
void scan_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"B", "T", "N"})->Args({4, 1024, 128})->UseRealTime();
}
BENCHMARK(DiagonalScanForward)->Apply(scan_shapes);
BENCHMARK(DiagonalScanBackward)->Apply(scan_shapes);

// S4D stepped: what kernel and convolution save, and what a state that goes on costs.
struct Steps {
  Batch batch;
  Diagonal diagonal;
  std::vector<float> z, w, dz, dw, borders;
  S4dScan scan;

  explicit Steps(const benchmark::State& state)
      : batch(state),
        diagonal(state.range(2), state.range(3), 1),
        z(static_cast<std::size_t>(2 * state.range(3) * state.range(2))),
        w(z),
        dz(z),
        dw(z),
        borders(z.size() * static_cast<std::size_t>(state.range(0) * s4d_chunks(state.range(1)))) {
    s4d_scan_parameters(diagonal.parameters, z.data(), w.data());
    scan = {.channels = batch.channels, .states = state.range(3), .z = z.data(), .w = w.data(), .d = batch.d.data()};
  }
};

void S4dScanForward(benchmark::State& state) {
  Steps s(state);
  Batch& b = s.batch;
  for (auto _ : state) {
    s4d_scan(pool(), s.scan, {b.x.data(), b.rows, b.channels}, b.sequences, {b.y.data(), b.rows, b.channels},
             s.borders.data());
  }
}
void S4dScanBackward(benchmark::State& state) {
  Steps s(state);
  Batch& b = s.batch;
  for (auto _ : state) {
    s4d_scan_backward(pool(), s.scan, {b.x.data(), b.rows, b.channels}, b.sequences, s.borders.data(),
                      {b.up.data(), b.rows, b.channels}, {},
                      {.x = {b.y.data(), b.rows, b.channels}, .z = s.dz.data(), .w = s.dw.data(), .d = nullptr});
  }
}
void step_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"B", "T", "C", "M"})->Args({4, 1024, 128, 32})->UseRealTime();
}
BENCHMARK(S4dScanForward)->Apply(step_shapes);
BENCHMARK(S4dScanBackward)->Apply(step_shapes);

}  // namespace
