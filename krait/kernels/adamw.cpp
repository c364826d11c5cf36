#include "krait/kernels/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/simd/highway_config.h"

// Shared by all targets; this file is compiled once for each.
#ifndef KRAIT_KERNELS_ADAMW_CPP_
#define KRAIT_KERNELS_ADAMW_CPP_
namespace krait::kernels {
namespace {

// The numbers of a step, rounded to f32.
struct StepFactors {
  float gradient;   // gradient_scale
  float b1, rest1;  // b1, 1 - b1
  float b2, rest2;  // b2, 1 - b2
  float kept;       // 1 - rate decay
  float rate;       // rate / (1 - b1^t)
  float root;       // 1 / sqrt(1 - b2^t)
  float epsilon;
  float average, rest_of_average;
};

struct Elements {
  float* values;
  const float* gradient;
  float* m;
  float* v;
  float* average;  // or null
  std::int64_t count;
};

}  // namespace
}  // namespace krait::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/adamw.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/for_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

double add_squares(const float* from, std::int64_t count) {
  const hn::Half<F32> half;
  const hn::Rebind<double, hn::Half<F32>> wide;
  auto low = hn::Zero(wide), high = hn::Zero(wide);
  for_vectors(count, [&](auto whole, std::int64_t i, std::size_t part) {
    const VecF32 g = load<decltype(whole)::value>(from + i, part);
    const auto first = hn::PromoteTo(wide, hn::LowerHalf(half, g));
    const auto second = hn::PromoteTo(wide, hn::UpperHalf(half, g));
    low = hn::MulAdd(first, first, low);
    high = hn::MulAdd(second, second, high);
  });
  return hn::GetLane(hn::SumOfLanes(wide, hn::Add(low, high)));
}

void update_elements(const StepFactors& factors, const Elements& e) {
  const F32 d;
  const VecF32 scale = hn::Set(d, factors.gradient), b1 = hn::Set(d, factors.b1), rest1 = hn::Set(d, factors.rest1);
  const VecF32 b2 = hn::Set(d, factors.b2), rest2 = hn::Set(d, factors.rest2), kept = hn::Set(d, factors.kept);
  const VecF32 rate = hn::Set(d, factors.rate), root = hn::Set(d, factors.root);
  const VecF32 epsilon = hn::Set(d, factors.epsilon), of_average = hn::Set(d, factors.average);
  const VecF32 rest_of_average = hn::Set(d, factors.rest_of_average);
  for_vectors(e.count, [&](auto whole, std::int64_t i, std::size_t part) {
    constexpr bool kWhole = decltype(whole)::value;
    const VecF32 g = hn::Mul(load<kWhole>(e.gradient + i, part), scale);
    const VecF32 m = hn::MulAdd(b1, load<kWhole>(e.m + i, part), hn::Mul(rest1, g));
    const VecF32 v = hn::MulAdd(b2, load<kWhole>(e.v + i, part), hn::Mul(rest2, hn::Mul(g, g)));
    const VecF32 change = hn::Div(hn::Mul(rate, m), hn::MulAdd(hn::Sqrt(v), root, epsilon));
    const VecF32 p = hn::MulSub(kept, load<kWhole>(e.values + i, part), change);
    store<kWhole>(m, e.m + i, part);
    store<kWhole>(v, e.v + i, part);
    store<kWhole>(p, e.values + i, part);
    if (e.average != nullptr) {
      const VecF32 average = load<kWhole>(e.average + i, part);
      store<kWhole>(hn::MulAdd(of_average, average, hn::Mul(rest_of_average, p)), e.average + i, part);
    }
  });
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(add_squares);
HWY_EXPORT(update_elements);

// Elements of one task: long enough that their memory streams, short enough that small parameters use several threads.
constexpr std::int64_t kTaskElements = 32768;

void check_length(std::size_t length, std::size_t of_values, const char* what) {
  KRAIT_CHECK(length == of_values, "{} of {} elements, {} values", what, length, of_values);
}

}  // namespace

double sum_of_squares(ThreadPool& pool, std::span<const float> gradient) {
  const auto count = static_cast<std::int64_t>(gradient.size());
  std::vector<double> parts(static_cast<std::size_t>((count + kTaskElements - 1) / kTaskElements));
  pool.parallel_for(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i * kTaskElements;
      parts[static_cast<std::size_t>(i)] =
          HWY_DYNAMIC_DISPATCH(add_squares)(gradient.data() + first, std::min(kTaskElements, count - first));
    }
  });
  double sum = 0.0;
  for (const double part : parts) sum += part;
  return sum;
}

void adamw_update(ThreadPool& pool, const AdamW& adamw, const AdamWParameter& parameter) {
  KRAIT_CHECK(adamw.step >= 1, "step {}", adamw.step);
  const std::size_t length = parameter.values.size();
  check_length(parameter.gradient.size(), length, "a gradient");
  check_length(parameter.m.size(), length, "m");
  check_length(parameter.v.size(), length, "v");
  if (!parameter.average.empty()) check_length(parameter.average.size(), length, "an average");
  const auto step = static_cast<double>(adamw.step);
  const StepFactors factors{.gradient = static_cast<float>(adamw.gradient_scale),
                            .b1 = static_cast<float>(adamw.b1),
                            .rest1 = static_cast<float>(1.0 - adamw.b1),
                            .b2 = static_cast<float>(adamw.b2),
                            .rest2 = static_cast<float>(1.0 - adamw.b2),
                            .kept = static_cast<float>(1.0 - adamw.rate * adamw.decay),
                            .rate = static_cast<float>(adamw.rate / (1.0 - std::pow(adamw.b1, step))),
                            .root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(adamw.b2, step))),
                            .epsilon = static_cast<float>(adamw.epsilon),
                            .average = static_cast<float>(adamw.average_decay),
                            .rest_of_average = static_cast<float>(1.0 - adamw.average_decay)};
  pool.parallel_for(static_cast<std::int64_t>(length), kTaskElements, [&](std::int64_t begin, std::int64_t end) {
    HWY_DYNAMIC_DISPATCH(update_elements)
    (factors, {.values = parameter.values.data() + begin,
               .gradient = parameter.gradient.data() + begin,
               .m = parameter.m.data() + begin,
               .v = parameter.v.data() + begin,
               .average = parameter.average.empty() ? nullptr : parameter.average.data() + begin,
               .count = end - begin});
  });
}

}  // namespace krait::kernels
#endif
