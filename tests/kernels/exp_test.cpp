// Walks the vector exp over its whole range on every target.
#include <cmath>
#include <cstring>
#include <limits>

#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/exp_test.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// count is a multiple of 16.
void exp_array(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; i += kLanes) hn::StoreU(exp_f32(hn::LoadU(F32(), x + i)), F32(), y + i);
}

void exp2_array(const float* x, float* y, std::size_t count) {
  for (std::size_t i = 0; i < count; i += kLanes) {
    VecF32 v[1] = {hn::LoadU(F32(), x + i)};
    exp2_f32(v);
    hn::StoreU(v[0], F32(), y + i);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

HWY_EXPORT(exp_array);
HWY_EXPORT(exp2_array);

float exp_one(float x) {
  float in[16], out[16];
  std::fill_n(in, 16, x);
  HWY_DYNAMIC_DISPATCH(exp_array)(in, out, 16);
  return out[3];
}

// Distance to the exact value in units of the last place of the float nearest to it.
double ulps(float actual, double exact) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::fabs(actual - exact) / std::ldexp(1.0, exponent - 24);
}

TEST(Exp, WithinOneUlpOverTheNormalRange) {
  tests::on_every_target([] {
    double worst = 0.0;
    float in[16], out[16];
    // Every 101st float between the ends, of both signs; 101 is odd, so all low bits occur.
    for (const float end : {-87.3F, 88.7F}) {
      std::uint32_t last = 0;
      std::memcpy(&last, &end, sizeof(end));
      const std::uint32_t sign = last & 0x80000000U;
      for (std::uint32_t bits = 0; bits < (last & 0x7fffffffU); bits += 101 * 16) {
        for (std::uint32_t i = 0; i < 16; ++i) {
          const std::uint32_t one = std::min(bits + 101 * i, last & 0x7fffffffU) | sign;
          std::memcpy(&in[i], &one, sizeof(one));
        }
        HWY_DYNAMIC_DISPATCH(exp_array)(in, out, 16);
        for (int i = 0; i < 16; ++i) worst = std::max(worst, ulps(out[i], std::exp(double{in[i]})));
      }
    }
    EXPECT_LE(worst, 1.0);
    ::testing::Test::RecordProperty("worst_ulp_" + active_target(), std::to_string(worst));
  });
}

TEST(Exp, EndsOfTheRange) {
  tests::on_every_target([] {
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(exp_one(0.0F), 1.0F);
    EXPECT_EQ(exp_one(-0.0F), 1.0F);
    EXPECT_EQ(exp_one(88.8F), infinity);
    EXPECT_EQ(exp_one(1e30F), infinity);
    EXPECT_EQ(exp_one(infinity), infinity);
    EXPECT_EQ(exp_one(-104.0F), 0.0F);
    EXPECT_EQ(exp_one(-1e30F), 0.0F);
    EXPECT_EQ(exp_one(-infinity), 0.0F);
    EXPECT_TRUE(std::isnan(exp_one(std::nanf(""))));
    // Subnormal results are right to their own spacing.
    for (float x = -103.0F; x < -87.0F; x += 0.37F) {
      EXPECT_NEAR(exp_one(x), std::exp(double{x}), 0x1p-149 + std::exp(double{x}) * 0x1p-23) << x;
    }
  });
}

TEST(Exp2, WithinOneUlpAndAQuarterOverTheNormalRange) {
  tests::on_every_target([] {
    double worst = 0.0;
    float in[16], out[16];
    for (const float end : {-126.0F, 127.99F}) {
      std::uint32_t last = 0;
      std::memcpy(&last, &end, sizeof(end));
      const std::uint32_t sign = last & 0x80000000U;
      for (std::uint32_t bits = 0; bits < (last & 0x7fffffffU); bits += 101 * 16) {
        for (std::uint32_t i = 0; i < 16; ++i) {
          const std::uint32_t one = std::min(bits + 101 * i, last & 0x7fffffffU) | sign;
          std::memcpy(&in[i], &one, sizeof(one));
        }
        HWY_DYNAMIC_DISPATCH(exp2_array)(in, out, 16);
        for (int i = 0; i < 16; ++i) worst = std::max(worst, ulps(out[i], std::exp2(double{in[i]})));
      }
    }
    // Without fused multiply-add f q, below 0.293 where the result is below 1, is rounded by up to 2^-26 before the
    // sum: a quarter of an ulp more.
    EXPECT_LE(worst, 1.25);
    ::testing::Test::RecordProperty("worst_ulp_" + active_target(), std::to_string(worst));
  });
}

TEST(Exp2, EndsOfTheRange) {
  tests::on_every_target([] {
    const auto exp2_one = [](float x) {
      float in[16], out[16];
      std::fill_n(in, 16, x);
      HWY_DYNAMIC_DISPATCH(exp2_array)(in, out, 16);
      return out[3];
    };
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(exp2_one(0.0F), 1.0F);
    EXPECT_EQ(exp2_one(-150.5F), 0.0F);
    EXPECT_EQ(exp2_one(-1e30F), 0.0F);
    EXPECT_EQ(exp2_one(-infinity), 0.0F);
    EXPECT_EQ(exp2_one(128.0F), infinity);
    EXPECT_EQ(exp2_one(1e30F), infinity);
    EXPECT_EQ(exp2_one(infinity), infinity);
    EXPECT_TRUE(std::isnan(exp2_one(std::nanf(""))));
    // A decay close to 1 keeps its distance from 1: slow states forget at the right rate.
    for (float x = 0x1p-20F; x < 0x1p-4F; x *= 1.37F) {
      EXPECT_NEAR(exp2_one(-x), std::exp2(-double{x}), 0x1p-25 * (1.0 + 4.0 * x)) << x;
    }
  });
}

}  // namespace
}  // namespace krait::kernels
#endif
