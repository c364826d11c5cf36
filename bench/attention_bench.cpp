// One step of attention over long caches: eight key heads of width D, r query heads each, a sequence of T tokens. The
// pages hold as many layers as go far beyond the caches, and an iteration is one step of each layer in turn, followed
// by a plain read of as many bytes (machine_peak.h), which is not counted: "of_read" is the ratio of both rates within
// an iteration, its median, so that a machine that drifts does not change it. One thread is timed by its processor
// time, which other processes on the machine do not lengthen.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/bench_pool.h"
#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"
#include "krait/kernels/attention.h"
#include "krait/kernels/machine_peak.h"

namespace {

using namespace krait;
using namespace krait::kernels;
using bench::pool;
using bench::seconds_of;

constexpr std::int64_t kKeyHeads = 8;
// Of all layers together, at least.
constexpr std::int64_t kCacheBytes = std::int64_t{160} << 20;

// Pages of a sequence as a runtime has them: each with the part of every layer, one after the other in huge pages.
class LayeredPages {
 public:
  LayeredPages(const KvShape& shape, std::int64_t tokens)
      : layer_bytes_(shape.page_bytes()),
        layers_(std::max<std::int64_t>(1, kCacheBytes / (layer_bytes_ * kv_pages(tokens)))),
        buffer_(static_cast<std::size_t>(layers_ * layer_bytes_ * kv_pages(tokens))) {
    for (std::int64_t i = 0; i < kv_pages(tokens); ++i) pages_.push_back(buffer_.data() + i * layers_ * layer_bytes_);
    Random random(static_cast<std::uint64_t>(tokens));
    AlignedBuffer rows(static_cast<std::size_t>(tokens * kKeyHeads * shape.key_width) * sizeof(float));
    for (float& v : rows.as<float>()) v = static_cast<float>(2.0 * random.uniform() - 1.0);
    const RowsIn in(rows.as<float>().data(), tokens, kKeyHeads * shape.key_width);
    pool().parallel_for(layers_ * kKeyHeads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const KvSequence all = sequence(i / kKeyHeads, 0);
        store_keys(shape, all, i % kKeyHeads, 0, tokens, 0, in);
        store_values(shape, all, i % kKeyHeads, 0, tokens, 0, in);
      }
    });
  }
  std::int64_t layers() const { return layers_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(buffer_.size()); }
  KvSequence sequence(std::int64_t layer, std::int64_t position) const {
    return {.first_row = 0,
            .rows = 1,
            .position = position,
            .pages = pages_.data(),
            .offset = static_cast<std::uint64_t>(layer * layer_bytes_)};
  }

 private:
  std::int64_t layer_bytes_, layers_;
  AlignedBuffer buffer_;
  std::vector<std::byte*> pages_;
};

void AttentionDecode(benchmark::State& state) {
  const std::int64_t tokens = state.range(0), width = state.range(1), group = state.range(2);
  const auto dtype = static_cast<DType>(state.range(3));
  const Attention attention = {.kv = {.key_heads = kKeyHeads,
                                      .key_width = width,
                                      .value_heads = kKeyHeads,
                                      .value_width = width,
                                      .dtype = dtype},
                               .query_heads = kKeyHeads * group,
                               .scale = 1.0F / std::sqrt(static_cast<float>(width))};
  const LayeredPages pages(attention.kv, tokens);
  static PlainRead read(pool());
  AlignedBuffer q(static_cast<std::size_t>(attention.query_heads * width) * sizeof(float)), out(q.size());
  Random random(1);
  for (float& v : q.as<float>()) v = static_cast<float>(2.0 * random.uniform() - 1.0);
  const RowsIn query(q.as<float>().data(), 1, attention.query_heads * width);
  const RowsOut to(out.as<float>().data(), 1, attention.query_heads * width);
  std::vector<double> shares;
  double fastest_read = 0.0, fastest = 0.0;
  for (auto _ : state) {
    const double seconds = seconds_of([&] {
      for (std::int64_t layer = 0; layer < pages.layers(); ++layer) {
        const KvSequence sequence = pages.sequence(layer, tokens - 1);
        kernels::attention(pool(), attention, query, {}, {}, {&sequence, 1}, to);
      }
    });
    state.SetIterationTime(seconds);
    const std::int64_t plain_bytes = (pages.bytes() >> 20) << 20;
    const double rate = static_cast<double>(pages.bytes()) / seconds * 1e-9;
    const double plain = static_cast<double>(plain_bytes) / seconds_of([&] { read.pass(plain_bytes); }) * 1e-9;
    fastest = std::max(fastest, rate);
    fastest_read = std::max(fastest_read, plain);
    shares.push_back(rate / plain);
  }
  std::ranges::nth_element(shares, shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2));
  state.counters["GB/s"] = fastest;
  state.counters["read_GB/s"] = fastest_read;
  state.counters["of_read"] = shares[shares.size() / 2];
  state.SetLabel(std::string(to_string(dtype)));
}
BENCHMARK(AttentionDecode)
    ->ArgNames({"T", "D", "r", "dtype"})
    ->ArgsProduct({{8192},
                   {64, 128},
                   {1, 2, 4, 8},
                   {static_cast<std::int64_t>(DType::kF32), static_cast<std::int64_t>(DType::kBF16),
                    static_cast<std::int64_t>(DType::kI8)}})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
