#include "krait/kernels/state_conversion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "krait/core/random.h"
#include "krait/kernels/state_storage.h"

namespace krait::kernels {
namespace {

std::vector<float> normals(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

std::vector<std::byte> converted(DType from_dtype, std::span<const std::byte> from, std::int64_t rows,
                                 std::int64_t width, DType to_dtype) {
  std::vector<std::byte> to(static_cast<std::size_t>(state_bytes(to_dtype, rows, width)));
  convert_state(from_dtype, from.data(), rows, width, to_dtype, to.data());
  return to;
}

std::vector<float> floats(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(StateConversion, RoundsToNearestAndComesBack) {
  for (const std::int64_t width : {1, 63, 64, 65, 200}) {
    constexpr std::int64_t kRows = 5;
    std::vector<float> values = normals(kRows * width, 9);
    std::fill_n(values.begin(), static_cast<std::size_t>(std::min<std::int64_t>(width, 64)), 0.0F);  // a block of zeros
    const auto bytes = std::as_bytes(std::span(values));
    const auto bf16 = floats(
        converted(DType::kBF16, converted(DType::kF32, bytes, kRows, width, DType::kBF16), kRows, width, DType::kF32));
    const auto int8 = floats(
        converted(DType::kI8, converted(DType::kF32, bytes, kRows, width, DType::kI8), kRows, width, DType::kF32));
    for (std::int64_t i = 0; i < kRows * width; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_LE(std::fabs(bf16[at] - values[at]), std::fabs(values[at]) * 0x1p-8F);  // 8 bits of significand
      float most = 0;
      const std::int64_t row = i / width, block = i % width / 64;
      for (std::int64_t j = block * 64; j < std::min(width, block * 64 + 64); ++j) {
        most = std::max(most, std::fabs(values[static_cast<std::size_t>(row * width + j)]));
      }
      // Half a step, and the rounding of the step itself.
      EXPECT_LE(std::fabs(int8[at] - values[at]), most / 254 * (1 + 0x1p-15F)) << i;
    }
    // What has been rounded stays as it is.
    const auto narrow = converted(DType::kF32, bytes, kRows, width, DType::kBF16);
    EXPECT_EQ(
        converted(DType::kF32, converted(DType::kBF16, narrow, kRows, width, DType::kF32), kRows, width, DType::kBF16),
        narrow);
    EXPECT_EQ(converted(DType::kF32, bytes, kRows, width, DType::kF32),
              std::vector<std::byte>(bytes.begin(), bytes.end()));
  }
}

// A page of another dtype is the page that storing the rows in that dtype would have given.
TEST(StateConversion, PagesAreWhatStoringTheRowsWouldGive) {
  const KvShape wide{.key_heads = 3, .key_width = 10, .value_heads = 2, .value_width = 21, .dtype = DType::kF32};
  const std::vector<float> k = normals(64 * 30, 1), v = normals(64 * 42, 2);
  const auto stored = [&](DType dtype) {
    KvShape shape = wide;
    shape.dtype = dtype;
    std::vector<std::byte> page(static_cast<std::size_t>(shape.page_bytes()));
    const KvSequence sequence{.ring = page.data(), .ring_pages = 1};
    for (std::int64_t head = 0; head < 3; ++head) store_keys(shape, sequence, head, 0, 64, 0, {k.data(), 64, 30});
    for (std::int64_t head = 0; head < 2; ++head) store_values(shape, sequence, head, 0, 64, 0, {v.data(), 64, 42});
    return page;
  };
  const std::vector<std::byte> f32 = stored(DType::kF32);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8}) {
    KvShape narrow = wide;
    narrow.dtype = dtype;
    std::vector<std::byte> page(static_cast<std::size_t>(narrow.page_bytes()), std::byte{0xaa});
    convert_kv_page(wide, f32.data(), dtype, page.data());
    EXPECT_EQ(page, stored(dtype)) << to_string(dtype);
    // And back: the same numbers, rounded once.
    std::vector<std::byte> back(f32.size());
    convert_kv_page(narrow, page.data(), DType::kF32, back.data());
    std::vector<std::byte> again(page.size());
    convert_kv_page(wide, back.data(), dtype, again.data());
    if (dtype != DType::kI8) {  // an int8 step may round when it is found again
      EXPECT_EQ(again, page);
    }
  }
}

}  // namespace
}  // namespace krait::kernels
