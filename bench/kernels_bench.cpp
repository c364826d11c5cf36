// Every kernel at the shapes of mamba-130m (D 768, E 1536, N 16, R 48) and mamba2-130m (D 768, H 24, P 64, N 128),
// prefill of 512 rows and single steps, beside the machine's peak measured in the same run (printed first).
// KRAIT_BENCH_THREADS sets the pool's size.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdio>
#include <vector>

#include "bench/bench_floats.h"
#include "bench/bench_pool.h"
#include "krait/core/aligned_buffer.h"
#include "krait/kernels/activation.h"
#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/distribution.h"
#include "krait/kernels/hax_attention.h"
#include "krait/kernels/machine_peak.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/scan_selective.h"
#include "krait/kernels/scan_ssd.h"
#include "krait/kernels/simd_target.h"
#include "krait/kernels/state_storage.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::Floats;
using bench::pool;

using Rate = benchmark::Counter;
void report_flops(benchmark::State& state, double operations) {
  state.counters["GFLOP/s"] = Rate(operations * 1e-9, Rate::kIsIterationInvariantRate);
}
void report_bytes(benchmark::State& state, double bytes) {
  state.counters["GB/s"] = Rate(bytes * 1e-9, Rate::kIsIterationInvariantRate);
}

void Linear(benchmark::State& state) {
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const auto dtype = static_cast<DType>(state.range(3));
  const std::int64_t bytes = dtype == DType::kF32 ? 4 : 2;
  Floats x(m, k), y(m, n);
  AlignedBuffer weights(static_cast<std::size_t>(n * k * bytes));
  if (dtype == DType::kF32) {
    for (float& v : weights.as<float>()) v = 0.01F;
  } else {
    for (std::uint16_t& v : weights.as<std::uint16_t>()) v = dtype == DType::kBF16 ? 0x3c24 : 0x211f;
  }
  const WeightMatrix weight{.dtype = dtype, .rows = n, .columns = k, .data = weights.data()};
  for (auto _ : state) linear(pool(), x.rows(), weight, nullptr, y.rows());
  report_flops(state, 2.0 * static_cast<double>(m * k * n));
  report_bytes(state, static_cast<double>(n * k * bytes));
  state.SetLabel(std::string(to_string(dtype)));
}
void LinearPanels(benchmark::State& state) {
  const std::int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  WeightMatrix weight;
  weight.layout = WeightLayout::kPanels;
  weight.panels = static_cast<PanelFormat>(state.range(3));
  weight.rows = n;
  weight.columns = k;
  if (!is_float(weight.panels)) {
    weight.activations = scale_group(weight.panels) == 256 ? ActivationFormat::kQ8Block256 : ActivationFormat::kQ8Row;
  }
  const PanelShape shape = panel_shape(weight.panels, n, k);
  AlignedBuffer panels(static_cast<std::size_t>(shape.total_bytes));
  // Small numbers in every format: f32 and bf16 of about 0.01, f16 of about 1, any codes.
  for (std::uint16_t& v : panels.as<std::uint16_t>()) v = 0x3c24;
  weight.data = panels.data();
  Floats x(m, k), y(m, n);
  for (auto _ : state) linear(pool(), x.rows(), weight, nullptr, y.rows());
  report_flops(state, 2.0 * static_cast<double>(m * k * n));
  report_bytes(state, static_cast<double>(shape.total_bytes));
  state.SetLabel(std::string(to_string(weight.panels)));
}
constexpr auto panels(PanelFormat format) { return static_cast<std::int64_t>(format); }
const std::vector<std::int64_t> kPanelFormats = {
    panels(PanelFormat::kF32),       panels(PanelFormat::kBF16),        panels(PanelFormat::kInt8),
    panels(PanelFormat::kInt8Block), panels(PanelFormat::kInt4Group32), panels(PanelFormat::kQ4K),
    panels(PanelFormat::kQ6K),
};
BENCHMARK(LinearPanels)
    ->ArgNames({"M", "K", "N", "format"})
    ->ArgsProduct({{1, 8, 32, 512}, {768}, {3072}, kPanelFormats})
    ->ArgsProduct({{1}, {768}, {50288}, kPanelFormats})
    ->UseRealTime();

constexpr auto kF32 = static_cast<std::int64_t>(DType::kF32);
constexpr auto kBF16 = static_cast<std::int64_t>(DType::kBF16);
constexpr auto kI8 = static_cast<std::int64_t>(DType::kI8);
constexpr auto kF16 = static_cast<std::int64_t>(DType::kF16);
BENCHMARK(Linear)
    ->ArgNames({"M", "K", "N", "dtype"})
    ->ArgsProduct({{512}, {768}, {3072}, {kF32, kBF16, kF16}})
    ->ArgsProduct({{512}, {1536}, {768, 80}, {kF32}})
    ->ArgsProduct({{512}, {48}, {1536}, {kF32}})
    ->ArgsProduct({{1, 2, 4, 8, 12, 16, 17, 24, 32, 64}, {768}, {3072}, {kF32, kBF16}})
    ->ArgsProduct({{1, 8}, {768}, {50280}, {kF32, kBF16, kF16}})
    ->UseRealTime();

void RmsNorm(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  Floats residual(rows, 768), delta(rows, 768, 1e-6), weight(1, 768), y(rows, 768);
  for (auto _ : state) add_rms_norm(pool(), residual.rows(), delta.rows(), weight.data(), 1e-5F, y.rows());
  report_bytes(state, static_cast<double>(rows) * 768 * 4 * 4);
}
BENCHMARK(RmsNorm)->ArgName("T")->Arg(1)->Arg(512)->UseRealTime();

void GatedRmsNorm(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  Floats x(rows, 1536), gate(rows, 1536), weight(1, 1536), y(rows, 1536);
  for (auto _ : state) {
    gated_rms_norm(pool(), x.rows(), gate.rows(), weight.data(), 1e-5F, 1, GateOrder::kGateThenNorm, y.rows());
  }
  report_bytes(state, static_cast<double>(rows) * 1536 * 4 * 3);
}
BENCHMARK(GatedRmsNorm)->ArgName("T")->Arg(1)->Arg(512)->UseRealTime();

void Silu(benchmark::State& state) {
  Floats x(512, 1536, 4.0), y(512, 1536);
  for (auto _ : state) silu(pool(), x.rows(), y.rows());
  state.counters["G/s"] = Rate(512 * 1536e-9, Rate::kIsIterationInvariantRate);
}
BENCHMARK(Silu)->UseRealTime();

void Softplus(benchmark::State& state) {
  Floats x(512, 1536, 4.0), y(512, 1536);
  for (auto _ : state) softplus(pool(), x.rows(), nullptr, 0.0F, 1e30F, y.rows());
  state.counters["G/s"] = Rate(512 * 1536e-9, Rate::kIsIterationInvariantRate);
}
BENCHMARK(Softplus)->UseRealTime();

void Conv1d(benchmark::State& state) {
  const std::int64_t rows = state.range(0), channels = state.range(1);
  Floats x(rows, channels), weight(4, channels), bias(1, channels), window(3, channels), y(rows, channels);
  const Conv1dCausal conv{.width = 4, .weight = weight.data(), .bias = bias.data(), .silu = true};
  const SequenceRows sequence{.first_row = 0, .rows = rows, .state = window.bytes()};
  for (auto _ : state) conv1d_causal(pool(), conv, x.rows(), {&sequence, 1}, y.rows());
  report_bytes(state, static_cast<double>(rows * channels) * 8);
}
BENCHMARK(Conv1d)->ArgNames({"T", "C"})->ArgsProduct({{1, 512}, {1536, 1792}})->UseRealTime();

void SelectiveScanRows(benchmark::State& state) {
  const std::int64_t rows = state.range(0), sequences = state.range(1), channels = 1536, states = 16;
  Floats x(rows * sequences, channels), dt(rows * sequences, channels), z(rows * sequences, channels);
  Floats b(rows * sequences, states), c(rows * sequences, states), y(rows * sequences, channels);
  Floats a(states, channels, 7.0, -8.0), d(1, channels), bias(1, channels, 1.0, -4.0);
  const auto dtype = static_cast<DType>(state.range(2));
  const std::int64_t bytes = (state_bytes(dtype, states, channels) + 63) / 64 * 64;
  AlignedBuffer h(static_cast<std::size_t>(sequences * bytes));
  const SelectiveScan scan{.channels = channels,
                           .states = states,
                           .groups = 1,
                           .a = a.data(),
                           .d = d.data(),
                           .dt_bias = bias.data(),
                           .state_dtype = dtype};
  std::vector<SequenceRows> parts;
  for (std::int64_t i = 0; i < sequences; ++i) {
    parts.push_back({.first_row = i * rows, .rows = rows, .state = h.data() + i * bytes});
  }
  for (auto _ : state) {
    selective_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), z.rows(), parts, y.rows());
  }
  const auto elements = static_cast<double>(rows * sequences * channels);
  state.counters["Gexp/s"] = Rate(elements * states * 1e-9, Rate::kIsIterationInvariantRate);
  state.counters["ns/token-channel"] = Rate(elements * 1e-9, Rate::kIsIterationInvariantRate | Rate::kInvert);
}
BENCHMARK(SelectiveScanRows)
    ->ArgNames({"T", "B", "state"})
    ->ArgsProduct({{512}, {1}, {kF32, kI8}})
    ->ArgsProduct({{1}, {1, 32, 256}, {kF32, kBF16, kI8}})
    ->UseRealTime();

void SsdScanRows(benchmark::State& state) {
  const std::int64_t rows = state.range(0), sequences = state.range(1), chunk = state.range(2);
  const std::int64_t heads = 24, width = 64, states = 128, all = rows * sequences;
  Floats x(all, heads * width), dt(all, heads), b(all, states), c(all, states), y(all, heads * width);
  Floats a(1, heads, 7.0, -8.0), d(1, heads), bias(1, heads, 1.0, -4.0);
  const auto dtype = static_cast<DType>(state.range(3));
  const std::int64_t bytes = (state_bytes(dtype, heads * states, width) + 63) / 64 * 64;
  AlignedBuffer s(static_cast<std::size_t>(sequences * bytes));
  const SsdScan scan{.heads = heads,
                     .head_width = width,
                     .states = states,
                     .groups = 1,
                     .chunk = chunk,
                     .a = a.data(),
                     .d = d.data(),
                     .dt_bias = bias.data(),
                     .state_dtype = dtype};
  std::vector<SequenceRows> parts;
  for (std::int64_t i = 0; i < sequences; ++i) {
    parts.push_back({.first_row = i * rows, .rows = rows, .state = s.data() + i * bytes});
  }
  for (auto _ : state) ssd_scan(pool(), scan, x.rows(), dt.rows(), b.rows(), c.rows(), parts, y.rows());
  if (rows == 1) {
    report_bytes(state, static_cast<double>(sequences * bytes) * 2);
  } else {
    // Of a chunk of Q rows: C B^T once for all heads, half of Q^2 P, and twice Q N P for each head.
    const auto q = static_cast<double>(chunk);
    report_flops(state,
                 2.0 * static_cast<double>(all) * (q / 2 * states + heads * (q / 2 * width + 2.0 * states * width)));
  }
  state.counters["us/token"] = Rate(static_cast<double>(all) * 1e-6, Rate::kIsIterationInvariantRate | Rate::kInvert);
}
BENCHMARK(SsdScanRows)
    ->ArgNames({"T", "B", "Q", "state"})
    ->ArgsProduct({{512}, {1}, {16, 32, 48, 64, 96, 128}, {kF32}})
    ->ArgsProduct({{1}, {1, 32, 64}, {64}, {kF32, kBF16, kI8}})
    ->UseRealTime();

void HaxAttentionRows(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = 128, channels = 1536, hashes = 8;
  Floats q(rows, width), k(rows, width), centred_q(rows, width), centred_k(rows, width), scores(rows, 1);
  Floats v(rows, channels), y(rows, channels), projection(width, hashes), scale(1, channels);
  const HaxAttention hax{.key_width = width,
                         .value_width = channels,
                         .hashes = hashes,
                         .recent = 32,
                         .selected = 32,
                         .hash_projection = projection.data(),
                         .output_scale = scale.data()};
  AlignedBuffer s(static_cast<std::size_t>(hax.state_words()) * sizeof(float));
  const SequenceRows sequence{.first_row = 0, .rows = rows, .state = s.data()};
  const HaxInputs in = {.q = q.rows(),
                        .k = k.rows(),
                        .centred_q = centred_q.rows(),
                        .centred_k = centred_k.rows(),
                        .scores = scores.rows(),
                        .v = v.rows()};
  for (auto _ : state) hax_attention(pool(), hax, in, {&sequence, 1}, y.rows());
  report_flops(state, 2.0 * static_cast<double>(rows * 64 * (width + channels)));
}
BENCHMARK(HaxAttentionRows)->ArgName("T")->Arg(1)->Arg(512)->UseRealTime();

void Distribution(benchmark::State& state) {
  Floats logits(1, 50280, 8.0), p(1, 50280);
  std::vector<std::int32_t> best(40);
  for (auto _ : state) {
    benchmark::DoNotOptimize(argmax(logits.values()));
    benchmark::DoNotOptimize(log_sum_exp(logits.values()));
    softmax(logits.values(), 0.8F, p.values());
    top_k(logits.values(), best);
  }
}
BENCHMARK(Distribution)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const MachinePeak peak = measure_machine_peak(pool());
  fmt::print(stderr,
             "peak of {} threads, {}: read {:.1f} GB/s, f32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, int8 {:.0f} GOP/s\n",
             pool().size(), active_target(), peak.read_gb_per_s, peak.gemm_f32_gflops, peak.gemm_bf16_gflops,
             peak.gemm_int8_gops);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
