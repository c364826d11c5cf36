#include "krait/kernels/distribution.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/distribution.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// NaN counts as minus infinity; lanes past the end too.
HWY_INLINE VecF32 load_logits(const float* logits, std::size_t left) {
  const F32 d;
  const VecF32 v = left >= kLanes ? hn::LoadU(d, logits) : load_part(logits, left);
  const VecF32 low = hn::Set(d, kMinusInfinity);
  const VecF32 numbers = hn::IfThenElse(hn::Eq(v, v), v, low);
  return left >= kLanes ? numbers : hn::IfThenElse(hn::FirstN(d, left), numbers, low);
}

float logits_max(const float* logits, std::size_t count) {
  const F32 d;
  VecF32 best = hn::Set(d, kMinusInfinity);
  for (std::size_t i = 0; i < count; i += kLanes) best = hn::Max(best, load_logits(logits + i, count - i));
  return hn::GetLane(hn::MaxOfLanes(d, best));
}

// sum of e_i = exp((logits[i] - shift) / temperature), added up in double; e_i is stored where `out` is given.
// `shift` is the (finite) maximum.
double exp_sum(const float* logits, std::size_t count, float shift, float temperature, float* out) {
  const F32 d;
  const hn::Half<F32> half;
  const hn::Rebind<double, hn::Half<F32>> wide;
  const VecF32 shifts = hn::Set(d, shift), divisors = hn::Set(d, temperature);
  auto low = hn::Zero(wide), high = hn::Zero(wide);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const std::size_t left = count - i;
    const VecF32 e = exp_f32(hn::Div(hn::Sub(load_logits(logits + i, left), shifts), divisors));
    low = hn::Add(low, hn::PromoteTo(wide, hn::LowerHalf(half, e)));
    high = hn::Add(high, hn::PromoteTo(wide, hn::UpperHalf(half, e)));
    if (out == nullptr) continue;
    if (left >= kLanes) {
      hn::StoreU(e, d, out + i);
    } else {
      store_part(e, out + i, left);
    }
  }
  return hn::GetLane(hn::SumOfLanes(wide, hn::Add(low, high)));
}

void scale_values(float* values, std::size_t count, float factor) {
  const F32 d;
  const VecF32 factors = hn::Set(d, factor);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) hn::StoreU(hn::Mul(hn::LoadU(d, values + i), factors), d, values + i);
  if (i < count) store_part(hn::Mul(load_part(values + i, count - i), factors), values + i, count - i);
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(logits_max);
HWY_EXPORT(exp_sum);
HWY_EXPORT(scale_values);

constexpr float kLow = -std::numeric_limits<float>::infinity();

float number_or_low(float value) { return std::isnan(value) ? kLow : value; }

// Rises as logits fall: the sign moves, and negative numbers turn round. Both zeros are one.
std::uint32_t falling_key(float logit) {
  const auto bits = std::bit_cast<std::uint32_t>(number_or_low(logit) + 0.0F);
  return (bits >> 31) != 0 ? bits : ~(bits | 0x80000000U);
}

// All indices, the largest logits first: a radix sort of three digits, which keeps equals in their order.
std::vector<std::int32_t> sorted_by_logit(std::span<const float> logits) {
  constexpr int kDigits = 3, kBits = 11;
  constexpr std::uint32_t kRadix = 1U << kBits;
  struct Entry {
    std::uint32_t key;
    std::int32_t index;
  };
  std::vector<Entry> from(logits.size()), to(logits.size());
  std::vector<std::uint32_t> starts(std::size_t{kDigits} * kRadix);
  const auto digit = [](std::uint32_t key, int d) { return (key >> (kBits * d)) & (kRadix - 1); };
  for (std::size_t i = 0; i < logits.size(); ++i) {
    from[i] = {falling_key(logits[i]), static_cast<std::int32_t>(i)};
    for (int d = 0; d < kDigits; ++d) ++starts[static_cast<std::size_t>(d) * kRadix + digit(from[i].key, d)];
  }
  for (int d = 0; d < kDigits; ++d) {
    const std::span<std::uint32_t> begins = std::span(starts).subspan(static_cast<std::size_t>(d) * kRadix, kRadix);
    std::exclusive_scan(begins.begin(), begins.end(), begins.begin(), 0U);
    for (const Entry& entry : from) to[begins[digit(entry.key, d)]++] = entry;
    std::swap(from, to);
  }
  std::vector<std::int32_t> indices(logits.size());
  for (std::size_t i = 0; i < from.size(); ++i) indices[i] = from[i].index;
  return indices;
}

}  // namespace

std::int64_t argmax(std::span<const float> logits) {
  KRAIT_CHECK(!logits.empty(), "no logits");
  const float best = HWY_DYNAMIC_DISPATCH(logits_max)(logits.data(), logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (number_or_low(logits[i]) == best) return static_cast<std::int64_t>(i);
  }
  return 0;
}

double log_sum_exp(std::span<const float> logits) {
  KRAIT_CHECK(!logits.empty(), "no logits");
  const float best = HWY_DYNAMIC_DISPATCH(logits_max)(logits.data(), logits.size());
  if (std::isinf(best)) return best;
  return best + std::log(HWY_DYNAMIC_DISPATCH(exp_sum)(logits.data(), logits.size(), best, 1.0F, nullptr));
}

double softmax(std::span<const float> logits, float temperature, std::span<float> probabilities) {
  KRAIT_CHECK(!logits.empty(), "no logits");
  KRAIT_CHECK_EQ(logits.size(), probabilities.size());
  KRAIT_CHECK(temperature > 0.0F, "temperature {}", temperature);
  const float best = HWY_DYNAMIC_DISPATCH(logits_max)(logits.data(), logits.size());
  if (std::isinf(best)) {
    // All minus infinity: nothing is preferred. Plus infinity: its holders share everything.
    std::size_t holders = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const bool holds = number_or_low(logits[i]) == best;
      probabilities[i] = holds ? 1.0F : 0.0F;
      holders += holds ? 1 : 0;
    }
    for (float& p : probabilities) p /= static_cast<float>(holders);
    return best;
  }
  const double sum =
      HWY_DYNAMIC_DISPATCH(exp_sum)(logits.data(), logits.size(), best, temperature, probabilities.data());
  HWY_DYNAMIC_DISPATCH(scale_values)(probabilities.data(), probabilities.size(), static_cast<float>(1.0 / sum));
  return best / double{temperature} + std::log(sum);
}

void top_k(std::span<const float> logits, std::span<std::int32_t> indices) {
  const std::size_t k = indices.size();
  KRAIT_CHECK(k <= logits.size(), "{} of {} logits", k, logits.size());
  if (k == 0) return;
  if (k > logits.size() / 4) {
    // Most logits would enter the heap below, each for log k comparisons.
    std::copy_n(sorted_by_logit(logits).begin(), k, indices.begin());
    return;
  }
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float x = number_or_low(logits[static_cast<std::size_t>(a)]);
    const float y = number_or_low(logits[static_cast<std::size_t>(b)]);
    return x != y ? x > y : a < b;
  };
  // A heap of the best k so far with the worst of them on top: most logits lose one comparison against it.
  for (std::size_t i = 0; i < k; ++i) indices[i] = static_cast<std::int32_t>(i);
  std::make_heap(indices.begin(), indices.end(), before);
  float worst = number_or_low(logits[static_cast<std::size_t>(indices[0])]);
  for (std::size_t i = k; i < logits.size(); ++i) {
    // Later indices lose ties, so only a strictly larger value enters; NaN compares false.
    if (!(logits[i] > worst)) continue;
    std::pop_heap(indices.begin(), indices.end(), before);
    indices[k - 1] = static_cast<std::int32_t>(i);
    std::push_heap(indices.begin(), indices.end(), before);
    worst = number_or_low(logits[static_cast<std::size_t>(indices[0])]);
  }
  std::sort_heap(indices.begin(), indices.end(), before);
}

}  // namespace krait::kernels
#endif
