// The scans in training at the shapes of mamba-130m (E 1536, N 16) and mamba2-130m (H 24, P 64, N 128): the forward
// pass alone, the forward pass that keeps what the backward pass needs, and the backward pass, in turn within an
// iteration. Times are the least of all iterations, so that a machine that drifts or is busy does not change their
// ratio much.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "bench/bench_floats.h"
#include "bench/bench_pool.h"
#include "krait/kernels/scan_selective_backward.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::Floats;
using bench::pool;

template <class Plain, class Forward, class Backward>
void report_training(benchmark::State& state, double elements, Plain&& plain, Forward&& forward, Backward&& backward) {
  const auto time = [](double& least, auto&& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  };
  double least[3] = {1e9, 1e9, 1e9};
  for (auto _ : state) {
    time(least[0], plain);
    time(least[1], forward);
    time(least[2], backward);
  }
  state.counters["plain ns/element"] = least[0] / elements * 1e9;
  state.counters["forward ns/element"] = least[1] / elements * 1e9;
  state.counters["backward ns/element"] = least[2] / elements * 1e9;
  state.counters["backward/forward"] = least[2] / least[1];
}

void SelectiveScanTraining(benchmark::State& state) {
  const std::int64_t rows = state.range(0), sequences = state.range(1), channels = 1536, states = 16;
  const std::int64_t all = rows * sequences;
  Floats x(all, channels), dt(all, channels), z(all, channels), y(all, channels), dy(all, channels);
  Floats b(all, states), c(all, states), a(states, channels, 7.0, -8.0), d(1, channels), bias(1, channels, 1.0, -4.0);
  Floats dx(all, channels), ddt(all, channels), dz(all, channels), db(all, states), dc(all, states);
  Floats da(states, channels), dd(1, channels), dbias(1, channels), h(sequences * states, channels);
  const SelectiveScan scan{
      .channels = channels, .states = states, .groups = 1, .a = a.data(), .d = d.data(), .dt_bias = bias.data()};
  std::vector<SequenceRows> parts;
  for (std::int64_t i = 0; i < sequences; ++i) {
    parts.push_back(
        {.first_row = i * rows, .rows = rows, .state = reinterpret_cast<std::byte*>(h.data() + i * states * channels)});
  }
  Floats borders(selective_chunks(parts) * states, channels);
  report_training(
      state, static_cast<double>(all * channels),
      [&] { selective_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), z.rows(), parts, y.rows()); },
      [&] {
        selective_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), z.rows(), parts, y.rows(),
                       borders.data());
      },
      [&] {
        selective_scan_backward(pool(), scan,
                                {.x = x.rows(), .dt = dt.rows(), .b = b.rows(), .c = c.rows(), .z = z.rows()}, parts,
                                borders.data(), dy.rows(), {},
                                {.x = dx.rows(),
                                 .dt = ddt.rows(),
                                 .b = db.rows(),
                                 .c = dc.rows(),
                                 .z = dz.rows(),
                                 .a = da.data(),
                                 .d = dd.data(),
                                 .dt_bias = dbias.data()});
      });
}
BENCHMARK(SelectiveScanTraining)->ArgNames({"T", "B"})->Args({1024, 2})->UseRealTime();

}  // namespace
