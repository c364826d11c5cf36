#include "krait/formats/gguf_dequantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "krait/core/check.h"
#include "krait/formats/gguf.h"
#include "tests/formats/byte_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::ByteWriter;

constexpr std::uint16_t kOne = 0x3c00;  // binary16
constexpr std::uint16_t kHalf = 0x3800;
constexpr std::uint16_t kMinusTwo = 0xc000;

std::vector<float> dequantize(DType dtype, const Bytes& blocks) {
  const auto& type = info(dtype);
  std::vector<float> out(blocks.size() / static_cast<std::size_t>(type.bytes_per_block) *
                         static_cast<std::size_t>(type.elements_per_block));
  dequantize_blocks(dtype, blocks, out);
  return out;
}

TEST(DequantizeQ8_0, ScalesSignedBytes) {
  ByteWriter blocks;
  blocks.put(kHalf);
  for (int i = 0; i < 32; ++i) blocks.put(static_cast<std::int8_t>(i == 31 ? -128 : 3 * i - 40));
  blocks.put(kMinusTwo);
  for (int i = 0; i < 32; ++i) blocks.put(static_cast<std::int8_t>(i == 0 ? 127 : 0));
  const std::vector<float> out = dequantize(DType::kQ8_0, blocks.bytes());
  ASSERT_EQ(out.size(), 64U);
  EXPECT_EQ(out[0], -20.0F);
  EXPECT_EQ(out[14], 1.0F);
  EXPECT_EQ(out[30], 25.0F);
  EXPECT_EQ(out[31], -64.0F);
  EXPECT_EQ(out[32], -254.0F);
  EXPECT_EQ(out[33], 0.0F);
}

TEST(DequantizeQ4_0, LowHalvesComeFirst) {
  ByteWriter blocks;
  blocks.put(kHalf).put<std::uint8_t>(0xf0).put<std::uint8_t>(0x1a);
  for (int i = 2; i < 16; ++i) blocks.put<std::uint8_t>(0x88);
  const std::vector<float> out = dequantize(DType::kQ4_0, blocks.bytes());
  EXPECT_EQ(out[0], -4.0F);   // 0.5 (0 - 8)
  EXPECT_EQ(out[16], 3.5F);   // 0.5 (15 - 8)
  EXPECT_EQ(out[1], 1.0F);    // 0.5 (10 - 8)
  EXPECT_EQ(out[17], -3.5F);  // 0.5 (1 - 8)
  for (const std::size_t i : {2U, 15U, 18U, 31U}) EXPECT_EQ(out[i], 0.0F);
}

// Scales 1 2 3 63 33 48 16 63 and minima 0 5 63 7 50 17 32 63, packed by hand: for instance scale 4 = 33 = 0b10'0001
// has its upper two bits in byte 0 (0x80 beside scale 0 = 1) and its lower four in byte 8.
constexpr std::array<int, 8> kScales = {1, 2, 3, 63, 33, 48, 16, 63};
constexpr std::array<int, 8> kMinima = {0, 5, 63, 7, 50, 17, 32, 63};
constexpr std::array<std::uint8_t, 12> kPacked = {0x81, 0xc2, 0x43, 0xff, 0xc0, 0x45,
                                                  0xbf, 0xc7, 0x21, 0x10, 0x00, 0xff};

TEST(DequantizeQ4_K, UnpacksSixBitScalesAndMinima) {
  ByteWriter block;
  block.put(kOne).put(kHalf);
  for (const std::uint8_t byte : kPacked) block.put(byte);
  // Byte i of pair p: low half i mod 16, high half 15 - i mod 16.
  for (int i = 0; i < 128; ++i) block.put(static_cast<std::uint8_t>((i % 16) | ((15 - i % 16) << 4)));
  const std::vector<float> out = dequantize(DType::kQ4_K, block.bytes());
  for (int group = 0; group < 8; ++group) {
    for (int i = 0; i < 32; ++i) {
      const int q = group % 2 == 0 ? i % 16 : 15 - i % 16;
      const auto g = static_cast<std::size_t>(group);
      const float expected = static_cast<float>(kScales[g] * q) - 0.5F * static_cast<float>(kMinima[g]);
      EXPECT_EQ(out[static_cast<std::size_t>(group * 32 + i)], expected) << group << ", " << i;
    }
  }
}

TEST(DequantizeQ5_K, TakesTheFifthBitOfEachGroupFromItsOwnBit) {
  ByteWriter block;
  block.put(kOne).put(kHalf);
  for (const std::uint8_t byte : kPacked) block.put(byte);
  for (int i = 0; i < 32; ++i) block.put(static_cast<std::uint8_t>(i));  // bit g of byte i: bit g of i
  for (int i = 0; i < 128; ++i) block.put(static_cast<std::uint8_t>((i % 16) | ((15 - i % 16) << 4)));
  const std::vector<float> out = dequantize(DType::kQ5_K, block.bytes());
  for (int group = 0; group < 8; ++group) {
    for (int i = 0; i < 32; ++i) {
      const int q = (group % 2 == 0 ? i % 16 : 15 - i % 16) + ((i >> group) % 2 == 1 ? 16 : 0);
      const auto g = static_cast<std::size_t>(group);
      const float expected = static_cast<float>(kScales[g] * q) - 0.5F * static_cast<float>(kMinima[g]);
      EXPECT_EQ(out[static_cast<std::size_t>(group * 32 + i)], expected) << group << ", " << i;
    }
  }
}

TEST(DequantizeQ6_K, JoinsHalvesAndBitPairs) {
  Bytes block(210);
  const auto set = [&](std::size_t at, std::uint8_t value) { block[at] = static_cast<std::byte>(value); };
  for (std::size_t i = 0; i < 16; ++i) set(192 + i, static_cast<std::uint8_t>(i == 15 ? -3 : static_cast<int>(i) + 1));
  set(208, 0x00);
  set(209, 0x38);            // d = 0.5
  set(0, 0x5a);              // low halves of value 0 (10) and of value 64 (5)
  set(32, 0xc3);             // of value 32 (3) and of value 96 (12)
  set(128, 0xe4);            // bit pairs of values 0, 32, 64, 96: 0, 1, 2, 3
  set(64 + 63, 0xf0);        // second half, value 31 + 32 = 63: 0; value 127: 15
  set(128 + 32 + 31, 0xc0);  // bit pair of value 127: 3
  const std::vector<float> out = dequantize(DType::kQ6_K, block);
  EXPECT_EQ(out[0], 0.5F * 1 * (10 - 32));
  EXPECT_EQ(out[32], 0.5F * 3 * (3 + 16 - 32));
  EXPECT_EQ(out[64], 0.5F * 5 * (5 + 32 - 32));
  EXPECT_EQ(out[96], 0.5F * 7 * (12 + 48 - 32));
  EXPECT_EQ(out[17], 0.5F * 2 * (0 - 32));
  EXPECT_EQ(out[128], 0.5F * 9 * (0 - 32));
  EXPECT_EQ(out[128 + 63], 0.5F * 12 * (0 - 32));
  EXPECT_EQ(out[255], 0.5F * -3 * (63 - 32));
}

TEST(DequantizeBlocks, ChecksItsCaller) {
  std::vector<float> out(32);
  EXPECT_THROW(dequantize_blocks(DType::kF32, Bytes(128), out), InternalError);
  EXPECT_THROW(dequantize_blocks(DType::kQ8_0, Bytes(33), out), InternalError);
  out.resize(31);
  EXPECT_THROW(dequantize_blocks(DType::kQ8_0, Bytes(34), out), InternalError);
}

// What a block can represent around one of its values: multiples of `step` from `low` to `high`.
struct Levels {
  double step;
  double low;
  double high;
};

double half_at(const std::byte* bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return f16_to_f32(bits);
}

int byte_at(const std::byte* bytes, int i) { return std::to_integer<int>(bytes[i]); }

Levels levels_of(DType dtype, const std::byte* block, int element) {
  switch (dtype) {
    case DType::kQ8_0: return {half_at(block), -127 * half_at(block), 127 * half_at(block)};
    case DType::kQ4_0: {
      const double d = half_at(block);
      return {std::abs(d), std::min(-8 * d, 7 * d), std::max(-8 * d, 7 * d)};
    }
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const int g = element / 32;
      const std::byte* packed = block + 4;
      const int scale =
          g < 4 ? byte_at(packed, g) % 64 : byte_at(packed, g + 4) % 16 + byte_at(packed, g - 4) / 64 * 16;
      const int minimum =
          g < 4 ? byte_at(packed, g + 4) % 64 : byte_at(packed, g + 4) / 16 + byte_at(packed, g) / 64 * 16;
      const double step = half_at(block) * scale;
      const double low = -half_at(block + 2) * minimum;
      return {step, low, low + (dtype == DType::kQ4_K ? 15 : 31) * step};
    }
    default: {  // Q6_K
      const double step = half_at(block + 208) * static_cast<std::int8_t>(byte_at(block, 192 + element / 16));
      return {std::abs(step), std::min(-32 * step, 31 * step), std::max(-32 * step, 31 * step)};
    }
  }
}

// The same weights, quantised by llama.cpp's tool and not. A quantiser chooses scales, then the nearest level:
//   K types: exactly the nearest level for the scales as they are stored, so w = x clamped to the range of the levels,
//            to half a step.
//   Q8_0:    levels are chosen with the scale before it is rounded to binary16 (relative 2^-11): another 127·2^-11
//            steps.
//   Q4_0:    the same, 8·2^-11 steps.
// Both ranges may end up to one step before the largest x: Q4_0 has no level +8, and the search for the scales of
// the K types tries ranges of one level more than there are. Their 6-bit scales and minima (8-bit scales for Q6_K)
// move the ends of the range further, by at most half a unit of the scale times the number of levels; how many units
// that is in steps depends on the group, so the ends are tested in the mean: RMS error below half a step.
void expect_within_steps(const char* folder, DType dtype) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  KRAIT_ASSERT_VALUE(const auto exact, open_gguf(path / "golden/gguf/mamba2/model.gguf"));
  KRAIT_ASSERT_VALUE(const auto quantised, open_gguf(path / "golden/gguf" / folder / "model.gguf"));
  std::size_t tensors_of_dtype = 0;
  for (const TensorInfo& tensor : quantised->tensors()) {
    SCOPED_TRACE(tensor.name);
    const std::size_t elements = static_cast<std::size_t>(element_count(tensor.shape).value());
    std::vector<float> x(elements), w(elements);
    KRAIT_ASSERT_VALUE(const TensorView exact_view, exact->view(tensor.name));
    KRAIT_ASSERT_VALUE(const TensorView view, quantised->view(tensor.name));
    ASSERT_EQ(view.shape, exact_view.shape);
    ASSERT_TRUE(read_as_f32(exact_view, x).has_value());
    ASSERT_TRUE(read_as_f32(view, w).has_value());
    if (tensor.dtype == dtype) ++tensors_of_dtype;
    const auto& type = info(tensor.dtype);
    if (type.elements_per_block == 1) {
      for (std::size_t i = 0; i < elements; ++i) {
        const float expected = tensor.dtype == DType::kBF16  ? bf16_to_f32(f32_to_bf16(x[i]))
                               : tensor.dtype == DType::kF16 ? f16_to_f32(f32_to_f16(x[i]))
                                                             : x[i];
        ASSERT_EQ(w[i], expected) << i;
      }
      continue;
    }
    const double rounding = tensor.dtype == DType::kQ8_0   ? 127 * 0x1p-11
                            : tensor.dtype == DType::kQ4_0 ? 8 * 0x1p-11
                                                           : 0.0;
    double squares = 0, step_squares = 0;
    for (std::size_t i = 0; i < elements; ++i) {
      const auto block_elements = static_cast<std::size_t>(type.elements_per_block);
      const std::byte* block = view.bytes.data() + i / block_elements * static_cast<std::size_t>(type.bytes_per_block);
      const Levels levels = levels_of(tensor.dtype, block, static_cast<int>(i % block_elements));
      const double nearest = std::clamp<double>(x[i], levels.low, levels.high);
      // 2^-20: both sides are computed in f32 from a handful of operations on values up to 64 steps.
      const double tolerance = levels.step * (0.5 + rounding) + 0x1p-20 * (std::abs(x[i]) + 64 * levels.step);
      ASSERT_LE(std::abs(w[i] - nearest), tolerance) << i << ": " << w[i] << " for " << x[i];
      squares += (w[i] - x[i]) * static_cast<double>(w[i] - x[i]);
      step_squares += levels.step * levels.step;
    }
    EXPECT_LT(squares, 0.25 * step_squares);
  }
  EXPECT_GT(tensors_of_dtype, 0U);
}

TEST(DequantizeGolden, Q8_0) { expect_within_steps("mamba2-q8_0", DType::kQ8_0); }
TEST(DequantizeGolden, Q4_0) { expect_within_steps("mamba2-q4_0", DType::kQ4_0); }
TEST(DequantizeGolden, Q4_K) { expect_within_steps("mamba2-q4_k", DType::kQ4_K); }
TEST(DequantizeGolden, Q5_K) { expect_within_steps("mamba2-q5_k", DType::kQ5_K); }
TEST(DequantizeGolden, Q6_K) { expect_within_steps("mamba2-q6_k", DType::kQ6_K); }
TEST(DequantizeGolden, Bf16) { expect_within_steps("mamba2-bf16", DType::kBF16); }

}  // namespace
}  // namespace krait::formats
