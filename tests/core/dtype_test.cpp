// Conversions are checked against definitions of the formats in double, where every value here is exact.
#include "krait/core/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "krait/core/random.h"

namespace krait {
namespace {

constexpr DType kAll[] = {DType::kF64,    DType::kF32,  DType::kF16,  DType::kBF16, DType::kF8E4M3,
                          DType::kF8E5M2, DType::kI64,  DType::kI32,  DType::kI16,  DType::kI8,
                          DType::kU64,    DType::kU32,  DType::kU16,  DType::kU8,   DType::kBool,
                          DType::kQ8_0,   DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// The value of a small IEEE-like float: sign, `exponent_bits`, `mantissa_bits`, subnormals, no special values.
double plain_value(unsigned bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << mantissa_bits) - 1);
  const double fraction = std::ldexp(mantissa, -mantissa_bits) + (exponent > 0 ? 1.0 : 0.0);
  const double magnitude = std::ldexp(fraction, std::max(exponent, 1) - bias);
  return ((bits >> (exponent_bits + mantissa_bits)) & 1U) != 0 ? -magnitude : magnitude;
}

// Rounds to a float of `precision` significant bits, ties to even, whose smallest step is 2^smallest and whose
// largest finite value is `largest`. Scaling by powers of two is exact, so nearbyint is the only rounding.
double round_to(double value, int precision, int smallest, double largest) {
  if (value == 0 || std::isinf(value)) return value;
  const int step = std::max(std::ilogb(value) - (precision - 1), smallest);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -step)), step);
  return std::abs(rounded) > largest ? std::copysign(std::numeric_limits<double>::infinity(), value) : rounded;
}

double round_to_f16(double value) { return round_to(value, 11, -24, 65504.0); }
double round_to_bf16(double value) { return round_to(value, 8, -133, std::ldexp(255.0, 120)); }

bool same_value(double a, double b) { return a == b && std::signbit(a) == std::signbit(b); }

// Every 16-bit upper half with lower halves at, just below and just above a tie: all cases of rounding to bf16.
template <class Check>
void for_floats_round_bf16_ties(const Check& check) {
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper) {
    for (const std::uint32_t lower : {0x0000U, 0x0001U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU}) {
      check(std::bit_cast<float>((upper << 16) | lower));
    }
  }
}

TEST(DType, NamesParseBackInAnyCase) {
  for (const DType dtype : kAll) {
    std::string name(to_string(dtype));
    EXPECT_EQ(parse_dtype(name), dtype) << name;
    for (char& letter : name) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
    EXPECT_EQ(parse_dtype(name), dtype) << name;
  }
  EXPECT_FALSE(parse_dtype(""));
  EXPECT_FALSE(parse_dtype("f3"));
  EXPECT_FALSE(parse_dtype("f322"));
}

TEST(DType, BytesForCountsWholeBlocks) {
  EXPECT_EQ(bytes_for(DType::kF32, 3), 12U);
  EXPECT_EQ(bytes_for(DType::kBF16, 0), 0U);
  EXPECT_EQ(bytes_for(DType::kF8E4M3, 7), 7U);
  EXPECT_EQ(bytes_for(DType::kQ8_0, 64), 2U * (2 + 32));
  EXPECT_EQ(bytes_for(DType::kQ4_0, 32), 2U + 16);
  EXPECT_EQ(bytes_for(DType::kQ4_K, 256), 2U * 2 + 12 + 128);
  EXPECT_EQ(bytes_for(DType::kQ5_K, 256), 2U * 2 + 12 + 128 + 32);
  EXPECT_EQ(bytes_for(DType::kQ6_K, 512), 2U * (128 + 64 + 16 + 2));
}

TEST(DType, BytesForRefusesNegativeAndBrokenBlocks) {
  for (const DType dtype : kAll) {
    EXPECT_FALSE(bytes_for(dtype, -1)) << to_string(dtype);
    EXPECT_FALSE(bytes_for(dtype, std::numeric_limits<std::int64_t>::min())) << to_string(dtype);
    const int block = info(dtype).elements_per_block;
    if (block > 1) {
      EXPECT_FALSE(bytes_for(dtype, block - 1)) << to_string(dtype);
      EXPECT_FALSE(bytes_for(dtype, block + 1)) << to_string(dtype);
    }
  }
}

// 2^63 - 1 elements of up to 2 bytes still fit in 64 bits; of 4 or 8 bytes they do not.
TEST(DType, BytesForSeesOverflow) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(bytes_for(DType::kI8, kMost), 0x7fffffffffffffffU);
  EXPECT_EQ(bytes_for(DType::kF16, kMost), 0xfffffffffffffffeU);
  EXPECT_FALSE(bytes_for(DType::kF32, kMost));
  EXPECT_FALSE(bytes_for(DType::kF64, kMost));
  EXPECT_EQ(bytes_for(DType::kF64, (std::int64_t{1} << 61) - 1), 0xfffffffffffffff8U);
  EXPECT_FALSE(bytes_for(DType::kF64, std::int64_t{1} << 61));
}

TEST(DType, EveryF16HasItsDefinedValue) {
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
    if ((bits & 0x7c00U) != 0x7c00U) {
      ASSERT_TRUE(same_value(value, plain_value(bits, 5, 10))) << bits;
    } else if ((bits & 0x3ffU) == 0) {
      ASSERT_EQ(value, (bits & 0x8000U) != 0 ? -std::numeric_limits<float>::infinity()
                                             : std::numeric_limits<float>::infinity());
    } else {
      ASSERT_TRUE(std::isnan(value)) << bits;
    }
  }
}

TEST(DType, EveryF16SurvivesTheRoundTrip) {
  for (unsigned bits = 0; bits < 0x10000U; ++bits) {
    const float value = f16_to_f32(static_cast<std::uint16_t>(bits));
    const std::uint16_t back = f32_to_f16(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(f16_to_f32(back))) << bits;
      ASSERT_EQ(back & 0x8000U, bits & 0x8000U) << bits;
    } else {
      ASSERT_EQ(back, bits);
    }
  }
}

// Between each two neighbouring f16 values: the tie and the floats on both sides of it.
TEST(DType, F32ToF16RoundsToNearestEven) {
  for (unsigned bits = 0; bits < 0x7c00U; ++bits) {
    // The neighbour above the largest finite value would be 65536: the tie towards it rounds to infinity.
    const double low = plain_value(bits, 5, 10);
    const double high = plain_value(bits + 1, 5, 10);
    const auto tie = static_cast<float>((low + high) / 2);
    for (const float magnitude : {std::nextafterf(tie, 0.0F), tie, std::nextafterf(tie, 1e9F)}) {
      for (const float value : {magnitude, -magnitude}) {
        ASSERT_TRUE(same_value(f16_to_f32(f32_to_f16(value)), round_to_f16(value))) << value;
      }
    }
  }
}

TEST(DType, F32ToF16AgreesWithTheOracleOnRandomBits) {
  Random random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
    const float back = f16_to_f32(f32_to_f16(value));
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(back));
    } else {
      ASSERT_TRUE(same_value(back, round_to_f16(value))) << value;
    }
  }
}

TEST(DType, F32ToBf16RoundsToNearestEvenEverywhere) {
  for_floats_round_bf16_ties([](float value) {
    const float back = bf16_to_f32(f32_to_bf16(value));
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(back)) << std::bit_cast<std::uint32_t>(value);
      ASSERT_EQ(std::signbit(back), std::signbit(value));
    } else {
      ASSERT_TRUE(same_value(back, round_to_bf16(value))) << value;
    }
  });
}

TEST(DType, EveryF8HasItsDefinedValue) {
  for (unsigned bits = 0; bits < 0x100U; ++bits) {
    const float e4m3 = f8e4m3_to_f32(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7fU) == 0x7fU) {
      EXPECT_TRUE(std::isnan(e4m3)) << bits;
    } else {
      EXPECT_TRUE(same_value(e4m3, plain_value(bits, 4, 3))) << bits;
    }
    const float e5m2 = f8e5m2_to_f32(static_cast<std::uint8_t>(bits));
    if ((bits & 0x7cU) != 0x7cU) {
      EXPECT_TRUE(same_value(e5m2, plain_value(bits, 5, 2))) << bits;
    } else {
      EXPECT_TRUE((bits & 3U) == 0 ? std::isinf(e5m2) : std::isnan(e5m2)) << bits;
    }
  }
  EXPECT_EQ(f8e4m3_to_f32(0x7e), 448.0F);
  EXPECT_EQ(f8e5m2_to_f32(0x7b), 57344.0F);
}

}  // namespace
}  // namespace krait
