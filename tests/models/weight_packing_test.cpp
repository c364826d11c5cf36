#include "krait/models/weight_packing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"

namespace krait::models {
namespace {

// One tensor "w" of random bytes.
class Bytes final : public formats::WeightSource {
 public:
  Bytes(DType dtype, Shape shape, std::uint64_t seed) {
    Random random(seed);
    bytes_.resize(static_cast<std::size_t>(*bytes_for(dtype, *element_count(shape))));
    for (std::byte& b : bytes_) b = static_cast<std::byte>(random.next());
    infos_.push_back({"w", dtype, std::move(shape), bytes_.size()});
  }
  std::string_view format() const override { return "gguf"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return infos_; }
  std::string origin() const override { return "bytes"; }
  Result<TensorView> view(std::string_view) const override {
    return TensorView{infos_[0].dtype, infos_[0].shape, bytes_};
  }
  std::span<std::byte> bytes() { return bytes_; }

 private:
  formats::Config config_{"bytes"};
  std::vector<formats::TensorInfo> infos_;
  std::vector<std::byte> bytes_;
};

// Scales are random bits: keep them finite and of one size, so that values can be compared.
void calm_halves(Bytes& source, DType dtype) {
  const std::size_t block = static_cast<std::size_t>(info(dtype).bytes_per_block);
  const auto put = [&](std::size_t at) {
    const std::uint16_t half = f32_to_f16(0.01F + 0.001F * static_cast<float>(at % 7));
    std::memcpy(source.bytes().data() + at, &half, sizeof half);
  };
  for (std::size_t at = 0; at + block <= source.bytes().size(); at += block) {
    put(dtype == DType::kQ6_K ? at + 208 : at);
    if (dtype == DType::kQ4_K || dtype == DType::kQ5_K) put(at + 2);
  }
}

TEST(StoredMatrix, BlockTypesOfAnyBytesKeepTheirValues) {
  ThreadPool pool(2);
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_0, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
    SCOPED_TRACE(to_string(dtype));
    constexpr std::int64_t kRows = 21, kColumns = 512;
    Bytes source(dtype, {kRows, kColumns}, 3);
    calm_halves(source, dtype);
    const auto matrix = StoredMatrix::find(source, "w", kRows, kColumns, std::nullopt);
    ASSERT_TRUE(matrix) << matrix.error().message;
    const auto shape = kernels::panel_shape(matrix->format(), kRows, kColumns);
    AlignedBuffer panels(static_cast<std::size_t>(shape.total_bytes));
    ASSERT_TRUE(matrix->pack(pool, matrix->format(), panels.data()));
    std::vector<float> expected(kColumns), got(kColumns);
    for (std::int64_t row = 0; row < kRows; ++row) {
      ASSERT_TRUE(source.read_rows(source.tensors()[0], row, 1, expected));
      kernels::unpack_row(matrix->format(), panels.data() + row / 16 * shape.panel_bytes, row % 16, kColumns,
                          got.data());
      for (std::size_t k = 0; k < kColumns; ++k) {
        // The file's int8 has -128, ours ends at -127; else one product and one difference are rounded.
        const float step = dtype == DType::kQ8_0 ? 0.02F : 4e-7F * (std::fabs(expected[k]) + 10.0F);
        ASSERT_NEAR(got[k], expected[k], step) << row << ", " << k;
      }
    }
  }
}

TEST(StoredMatrix, RowsThatAreNotWholeBlocksAreNamed) {
  Bytes source(DType::kQ4_K, {2, 256}, 4);
  const auto matrix = StoredMatrix::find(source, "w", 4, 128, std::nullopt);
  ASSERT_FALSE(matrix);
  EXPECT_NE(matrix.error().message.find("tensor w"), std::string::npos);
  EXPECT_FALSE(StoredMatrix::find(source, "v", 2, 256, std::nullopt));
}

// Rounding to int8 is off by at most half a step; to int4 by at most half a step except at the far end of the range,
// which rounding may clip by another half.
TEST(StoredMatrix, RoundingStaysWithinItsSteps) {
  ThreadPool pool(1);
  constexpr std::int64_t kRows = 5, kColumns = 200;
  Bytes source(DType::kF32, {kRows, kColumns}, 5);
  Random random(6);
  for (std::size_t i = 0; i < kRows * kColumns; ++i) {
    const auto value = static_cast<float>(random.normal());
    std::memcpy(source.bytes().data() + 4 * i, &value, 4);
  }
  const auto matrix = StoredMatrix::find(source, "w", kRows, kColumns, std::nullopt);
  ASSERT_TRUE(matrix);
  for (const auto& [format, levels] :
       std::map<kernels::PanelFormat, double>{{kernels::PanelFormat::kInt8, 127},
                                              {kernels::PanelFormat::kInt8Block, 127},
                                              {kernels::PanelFormat::kInt4Group32, 7},
                                              {kernels::PanelFormat::kInt4Group128, 7},
                                              {kernels::PanelFormat::kInt4Group32Zero, 7},
                                              {kernels::PanelFormat::kInt4Group128Zero, 7}}) {
    SCOPED_TRACE(to_string(format));
    const auto shape = kernels::panel_shape(format, kRows, kColumns);
    AlignedBuffer panels(static_cast<std::size_t>(shape.total_bytes));
    ASSERT_TRUE(matrix->pack(pool, format, panels.data()));
    std::vector<float> exact(kColumns), got(kColumns);
    for (std::int64_t row = 0; row < kRows; ++row) {
      ASSERT_TRUE(source.read_rows(source.tensors()[0], row, 1, exact));
      kernels::unpack_row(format, panels.data(), row, kColumns, got.data());
      float largest = 0;
      for (const float v : exact) largest = std::max(largest, std::fabs(v));
      for (std::size_t k = 0; k < kColumns; ++k) {
        // f16 scales are off by 2^-11 of a value.
        ASSERT_LE(std::fabs(got[k] - exact[k]), largest / levels * (levels > 7 ? 0.501 : 1.01) + largest * 0x1p-11);
      }
    }
  }
}

}  // namespace
}  // namespace krait::models
