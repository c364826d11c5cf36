#include "krait/kernels/machine_peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/matmul.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/machine_peak.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/load_store-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Reads `count` floats, a multiple of 8 vectors, and returns something that depends on all of them.
float read_all(const float* from, std::size_t count) {
  const F32 d;
  VecF32 sum[8];
  for (VecF32& v : sum) v = hn::Zero(d);
  for (std::size_t i = 0; i < count; i += 8 * kLanes) {
    for (std::size_t j = 0; j < 8; ++j) sum[j] = hn::Add(sum[j], hn::Load(d, from + i + j * kLanes));
  }
  for (std::size_t j = 1; j < 8; ++j) sum[0] = hn::Add(sum[0], sum[j]);
  return sum_lanes(sum[0]);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(read_all);

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Blocks of the memory that is read.
constexpr std::int64_t kBlock = std::int64_t{1} << 20;
constexpr std::int64_t kBlocks = PlainRead::kBytes / kBlock;

double measure_read(ThreadPool& pool) {
  PlainRead read(pool);
  std::vector<double> rates;
  for (int run = 0; run < 7; ++run) {
    const Clock::time_point start = Clock::now();
    read.pass();
    rates.push_back(static_cast<double>(PlainRead::kBytes) / seconds_since(start) * 1e-9);
  }
  return median(rates);
}

// Long enough in every direction that copying operands into oneDNN's own order costs little, small enough for L2.
constexpr std::int64_t kM = 512, kN = 384, kK = 512;

// Billions of operations a second with every thread repeating the product on operands of its own, filled with the
// given values: zeros or subnormal numbers would not run at the speed of real ones.
template <class C, class A, class B, class Product>
double measure_gemm(ThreadPool& pool, A a_value, B b_value, Product&& product) {
  struct Operands {
    std::vector<A> a;
    std::vector<B> b;
    std::vector<C> c;
  };
  std::vector<Operands> operands(static_cast<std::size_t>(pool.size()));
  for (Operands& each : operands) {
    each.a.assign(kM * kK, a_value);
    each.b.assign(kN * kK, b_value);
    each.c.resize(kM * kN);
  }
  std::vector<double> rates;
  for (int run = 0; run < 4; ++run) {
    std::atomic<std::int64_t> products = 0;
    const Clock::time_point start = Clock::now();
    pool.parallel_for(pool.size(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        Operands& mine = operands[static_cast<std::size_t>(i)];
        while (seconds_since(start) < 0.1) {
          product(mine.a.data(), mine.b.data(), mine.c.data());
          products.fetch_add(1, std::memory_order_relaxed);
        }
      }
    });
    const double operations = 2.0 * kM * kN * kK * static_cast<double>(products.load());
    // The first run compiles oneDNN's code.
    if (run > 0) rates.push_back(operations / seconds_since(start) * 1e-9);
  }
  return median(rates);
}

}  // namespace

PlainRead::PlainRead(ThreadPool& pool) : pool_(pool), buffer_(static_cast<std::size_t>(kBytes)) {
  // Pages that nobody wrote to are all the same page of zeros.
  pool_.parallel_for(kBlocks, 4, [&](std::int64_t begin, std::int64_t end) {
    std::fill(buffer_.data() + begin * kBlock, buffer_.data() + end * kBlock, std::byte{1});
  });
}

void PlainRead::pass(std::int64_t bytes) {
  KRAIT_CHECK(bytes > 0 && bytes <= kBytes && bytes % kBlock == 0, "a pass over {} bytes", bytes);
  const std::span<const float> floats = std::as_const(buffer_).as<float>();
  const std::int64_t first = next_block_;
  std::atomic<float> sink = 0.0F;
  pool_.parallel_for(bytes / kBlock, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<std::size_t>((first + i) % kBlocks * kBlock / 4);
      sink.store(HWY_DYNAMIC_DISPATCH(read_all)(floats.data() + at, kBlock / 4), std::memory_order_relaxed);
    }
  });
  next_block_ = (first + bytes / kBlock) % kBlocks;
}

MachinePeak measure_machine_peak(ThreadPool& pool) {
  MachinePeak peak;
  peak.read_gb_per_s = measure_read(pool);
  peak.gemm_f32_gflops = measure_gemm<float>(pool, 1.5F, 0.75F, [](const float* a, const float* b, float* c) {
    gemm_f32({}, kM, kN, kK, a, kK, b, kN, c, kN);
  });
  if (gemm_bf16_available()) {
    peak.gemm_bf16_gflops = measure_gemm<float>(pool, f32_to_bf16(1.5F), f32_to_bf16(0.75F),
                                                [](const std::uint16_t* a, const std::uint16_t* b, float* c) {
                                                  gemm_bf16({}, kM, kN, kK, a, kK, b, kN, c, kN);
                                                });
  }
  peak.gemm_int8_gops = measure_gemm<std::int32_t>(pool, std::uint8_t{3}, std::int8_t{5},
                                                   [](const std::uint8_t* a, const std::int8_t* b, std::int32_t* c) {
                                                     gemm_int8({}, kM, kN, kK, a, kK, b, kN, c, kN);
                                                   });
  return peak;
}

}  // namespace krait::kernels
#endif
