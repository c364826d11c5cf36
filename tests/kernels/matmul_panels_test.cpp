#include "krait/kernels/matmul_panels.h"

#include <cstring>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/panels.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

constexpr PanelFormat kFormats[] = {
    PanelFormat::kF32,
    PanelFormat::kF16,
    PanelFormat::kBF16,
    PanelFormat::kInt8,
    PanelFormat::kInt8Block,
    PanelFormat::kInt4Group32,
    PanelFormat::kInt4Group32Zero,
    PanelFormat::kInt4Group128,
    PanelFormat::kInt4Group128Zero,
    PanelFormat::kQ4K,
    PanelFormat::kQ5K,
    PanelFormat::kQ6K,
};

ActivationFormat activations_of(PanelFormat format) {
  switch (format) {
    case PanelFormat::kInt8Block: return ActivationFormat::kQ8Block32;
    case PanelFormat::kQ4K:
    case PanelFormat::kQ5K:
    case PanelFormat::kQ6K: return ActivationFormat::kQ8Block256;
    default: return is_float(format) ? ActivationFormat::kF32 : ActivationFormat::kQ8Row;
  }
}

// A random matrix in panels, and what each weight is worth by the definition of the format.
class Panels {
 public:
  Panels(PanelFormat format, std::int64_t rows, std::int64_t columns, Random& random)
      : shape_(panel_shape(format, rows, columns)), values_(rows, columns) {
    buffer_ = AlignedBuffer(static_cast<std::size_t>(shape_.total_bytes));
    matrix_.rows = rows;
    matrix_.columns = columns;
    matrix_.data = buffer_.data();
    matrix_.layout = WeightLayout::kPanels;
    matrix_.panels = format;
    matrix_.activations = activations_of(format);
    for (std::int64_t panel = 0; panel < shape_.panels; ++panel) fill_panel(format, panel, random);
  }
  const WeightMatrix& matrix() const { return matrix_; }
  float value(std::int64_t n, std::int64_t k) const { return values_.at(n, k); }

 private:
  struct Row {
    std::vector<std::uint8_t> codes, zeros, block_scales, block_minimums;
    std::vector<std::uint16_t> scales, minimums;
  };

  void fill_panel(PanelFormat format, std::int64_t panel, Random& random) {
    std::byte* const to = buffer_.data() + panel * shape_.panel_bytes;
    const std::int64_t first = panel * kPanelOutputs;
    const std::int64_t count = std::min(kPanelOutputs, matrix_.rows - first);
    if (is_float(format)) {
      std::vector<const float*> rows;
      for (std::int64_t n = first; n < first + count; ++n) {
        for (std::int64_t k = 0; k < matrix_.columns; ++k) {
          const auto v = static_cast<float>(random.normal());
          values_.at(n, k) = format == PanelFormat::kF32    ? v
                             : format == PanelFormat::kBF16 ? bf16_to_f32(f32_to_bf16(v))
                                                            : f16_to_f32(f32_to_f16(v));
        }
        rows.push_back(values_.out().row(n));
      }
      pack_float_panel(format, rows.data(), count, matrix_.columns, to);
      return;
    }
    std::vector<Row> rows(static_cast<std::size_t>(count));
    std::vector<OutputCodes> outputs;
    for (std::int64_t i = 0; i < count; ++i)
      outputs.push_back(draw(format, rows[static_cast<std::size_t>(i)], first + i, random));
    pack_code_panel(format, outputs.data(), count, matrix_.columns, to);
  }

  OutputCodes draw(PanelFormat format, Row& row, std::int64_t n, Random& random) {
    const bool wide = format == PanelFormat::kInt8 || format == PanelFormat::kInt8Block;
    const int codes = wide ? 256 : format == PanelFormat::kQ5K ? 32 : format == PanelFormat::kQ6K ? 64 : 16;
    const auto byte = [&](int below) {
      return static_cast<std::uint8_t>(random.next() % static_cast<std::uint64_t>(below));
    };
    const std::int64_t columns = matrix_.columns;
    const std::int64_t group = scale_group(format) == 0 ? columns : scale_group(format);
    OutputCodes output;
    output.scale = static_cast<float>(0.01 * (1.0 + random.uniform()));
    for (std::int64_t k = 0; k < columns; ++k) {
      // 1 … 255 stands for -127 … 127.
      row.codes.push_back(wide ? static_cast<std::uint8_t>(1 + byte(255)) : byte(codes));
      if (k % group == 0) {
        row.scales.push_back(f32_to_f16(static_cast<float>(0.01 * (1.0 + random.uniform()))));
        row.minimums.push_back(f32_to_f16(static_cast<float>(0.01 * random.normal())));
        row.zeros.push_back(byte(16));
      }
      if (k % (format == PanelFormat::kQ6K ? 16 : 32) == 0) {
        row.block_scales.push_back(byte(format == PanelFormat::kQ6K ? 256 : 64));
        row.block_minimums.push_back(byte(64));
      }
    }
    for (std::int64_t k = 0; k < columns; ++k) {
      const auto g = static_cast<std::size_t>(k / group);
      const auto b = static_cast<std::size_t>(k / 32);
      const double code = row.codes[static_cast<std::size_t>(k)];
      const double scale = f16_to_f32(row.scales[g]);
      double value = 0.0;
      switch (format) {
        case PanelFormat::kInt8: value = double{output.scale} * (code - 128); break;
        case PanelFormat::kInt8Block: value = scale * (code - 128); break;
        case PanelFormat::kInt4Group32:
        case PanelFormat::kInt4Group128: value = scale * (code - 8); break;
        case PanelFormat::kInt4Group32Zero:
        case PanelFormat::kInt4Group128Zero: value = scale * (code - row.zeros[g]); break;
        case PanelFormat::kQ6K:
          value = scale * static_cast<std::int8_t>(row.block_scales[static_cast<std::size_t>(k / 16)]) * (code - 32);
          break;
        default:
          value = scale * row.block_scales[b] * code - double{f16_to_f32(row.minimums[g])} * row.block_minimums[b];
      }
      values_.at(n, k) = static_cast<float>(value);
    }
    output.codes = row.codes.data();
    output.scales = row.scales.data();
    output.minimums = row.minimums.data();
    output.zeros = row.zeros.data();
    output.block_scales = row.block_scales.data();
    output.block_minimums = row.block_minimums.data();
    return output;
  }

  PanelShape shape_;
  AlignedBuffer buffer_;
  Matrix values_;
  WeightMatrix matrix_;
};

Matrix rounded(ThreadPool& pool, const Matrix& x, ActivationFormat format) {
  Matrix result(x.rows(), x.columns());
  round_activations(pool, format, x.in(), result.out());
  return result;
}

// Weights are f32 roundings of their values (one part in 2^24; of the two terms where they are a difference, hence
// `spread`), sums of K products have K + 4 roundings of the sum of magnitudes whatever their order.
void expect_product(ThreadPool& pool, PanelFormat format, std::int64_t m, std::int64_t n, std::int64_t k) {
  SCOPED_TRACE(::testing::Message() << to_string(format) << ", " << m << " x " << n << " x " << k);
  Random random(static_cast<std::uint64_t>(m + 100 * n + 10000 * k));
  Matrix x(m, k, 3, 1), y(m, n, 2, 1), bias(1, n, 0, 1);
  x.fill_normal(random);
  bias.fill_normal(random);
  const Panels weights(format, n, k, random);
  WeightMatrix matrix = weights.matrix();
  matrix.scale = 0.75F;
  linear(pool, x.in(), matrix, bias.data(), y.out());
  y.check_gaps();
  const Matrix used = rounded(pool, x, matrix.activations);
  constexpr double kSpread = 8.0;  // of a K type's minimum (at most 0.64) over the values it shifts
  // The oracle is slow: of a large product it checks every 11th row and every 7th output, which fall on all places of
  // the kernels' blocks of 8 rows and 48 outputs.
  const std::int64_t row_step = m > 100 ? 11 : 1, output_step = m > 100 ? 7 : 1;
  for (std::int64_t r = 0; r < m; r += row_step) {
    for (std::int64_t c = 0; c < n; c += output_step) {
      double sum = 0.0, magnitude = 0.0;
      for (std::int64_t i = 0; i < k; ++i) {
        sum += double{used.at(r, i)} * weights.value(c, i);
        magnitude +=
            std::fabs(double{used.at(r, i)}) * (std::fabs(weights.value(c, i)) + (is_float(format) ? 0.0 : 0.1));
      }
      ASSERT_NEAR(
          y.at(r, c), 0.75 * sum + bias.at(0, c),
          kRounding * static_cast<double>(k + 4) * kSpread * (magnitude + std::fabs(bias.at(0, c))) + tests::kTiny)
          << "row " << r << ", output " << c;
    }
  }
}

TEST(LinearPanels, MatchesTheDefinitionOfEveryFormat) {
  ThreadPool pool(2);
  on_every_target([&] {
    for (const PanelFormat format : kFormats) {
      const std::int64_t k = scale_group(format) == 256 ? 512 : scale_group(format) == 32 ? 96 : 70;
      for (const std::int64_t m : {0, 1, 2, 3, 7, 8, 9, 15}) expect_product(pool, format, m, 50, k);
      for (const std::int64_t n : {1, 15, 16, 17, 47, 48, 49}) expect_product(pool, format, 5, n, k);
      expect_product(pool, format, 300, 211, k);
    }
    for (const std::int64_t k : {1, 4, 31, 32, 33, 129, 260}) {
      expect_product(pool, PanelFormat::kInt8, 3, 20, k);
      expect_product(pool, PanelFormat::kInt4Group128, 3, 20, k);
      expect_product(pool, PanelFormat::kInt8Block, 3, 20, k);
      expect_product(pool, PanelFormat::kInt4Group32Zero, 3, 20, k);
      expect_product(pool, PanelFormat::kF32, 3, 20, k);
    }
  });
}

TEST(LinearPanels, ARowHasTheSameBitsAloneAndAmongOthersOnAnyNumberOfThreads) {
  on_every_target([&] {
    for (const PanelFormat format : kFormats) {
      Random random(7);
      Matrix x(70, 256), alone(70, 100);
      x.fill_normal(random);
      const Panels weights(format, 100, 256, random);
      ThreadPool one(1);
      for (std::int64_t m = 0; m < 70; ++m) {
        linear(one, x.in().slice_rows(m, 1), weights.matrix(), nullptr, alone.out().slice_rows(m, 1));
      }
      for (const int threads : {1, 2, 3}) {
        ThreadPool pool(threads);
        Matrix y(70, 100);
        linear(pool, x.in(), weights.matrix(), nullptr, y.out());
        tests::expect_same_bits(y, alone);
      }
    }
  });
}

// Products that share a loop, of equal or of different rows of x and in different formats, are those that stand alone.
TEST(LinearGroup, EveryProductHasTheBitsItHasAlone) {
  on_every_target([] {
    for (const PanelFormat format : kFormats) {
      Random random(9);
      Matrix x(60, 256);
      x.fill_normal(random);
      const Panels wide(format, 130, 256, random), narrow(format, 7, 256, random);
      const Panels other(format == PanelFormat::kF32 ? PanelFormat::kInt8 : PanelFormat::kF32, 20, 256, random);
      const WeightMatrix a = wide.matrix(), b = narrow.matrix(), c = other.matrix();
      WeightMatrix scaled = b;
      scaled.scale = 0.5F;
      Matrix bias(1, 130);
      bias.fill_normal(random);
      for (const bool mixed : {false, true}) {
        for (const int threads : {1, 3}) {
          ThreadPool pool(threads);
          Matrix first(60, 130, 2, 1), second(53, 7, 1), third(0, 7), fifth(60, 7);
          const WeightMatrix& last = mixed ? c : a;
          Matrix sixth(1, last.rows);
          const std::vector<GroupedProduct> products = {
              {.weight = &a, .bias = bias.data(), .y = first.out()},
              {.weight = &b, .bias = nullptr, .y = second.out(), .first_row = 4},
              {.weight = &b, .bias = nullptr, .y = third.out(), .first_row = 60},
              {.weight = &last, .bias = nullptr, .y = sixth.out(), .first_row = 59},
              {.weight = &scaled, .bias = nullptr, .y = fifth.out()}};
          linear_group(pool, x.in(), products);
          for (const GroupedProduct& product : products) {
            Matrix alone(product.y.rows, product.y.columns);
            linear(pool, x.in().slice_rows(product.first_row, product.y.rows), *product.weight, product.bias,
                   alone.out());
            for (std::int64_t row = 0; row < alone.rows(); ++row) {
              for (std::int64_t column = 0; column < alone.columns(); ++column) {
                ASSERT_EQ(product.y.row(row)[column], alone.at(row, column)) << to_string(format);
              }
            }
          }
          first.check_gaps();
          second.check_gaps();
        }
      }
    }
  });
}

// Whole numbers are exact, and what is rounded afterwards is rounded alike, except where multiply and add are fused.
TEST(LinearPanels, TargetsAgree) {
  ThreadPool pool(1);
  for (const PanelFormat format : kFormats) {
    Random random(8);
    Matrix x(9, 512), first(9, 40);
    x.fill_normal(random);
    const Panels weights(format, 40, 512, random);
    bool is_first = true;
    on_every_target([&] {
      Matrix y(9, 40);
      linear(pool, x.in(), weights.matrix(), nullptr, y.out());
      if (is_first) first = y;
      is_first = false;
      for (std::int64_t r = 0; r < 9; ++r) {
        for (std::int64_t c = 0; c < 40; ++c) {
          double magnitude = 0.0;
          for (std::int64_t i = 0; i < 512; ++i) {
            magnitude += std::fabs(double{x.at(r, i)}) * (std::fabs(weights.value(c, i)) + 0.1);
          }
          if (format == PanelFormat::kInt8) {
            ASSERT_EQ(y.at(r, c), first.at(r, c));
          } else {
            ASSERT_NEAR(y.at(r, c), first.at(r, c), kRounding * 2 * 516 * magnitude);
          }
        }
      }
    });
  }
}

TEST(LinearPanels, ExtremeCodesAndActivationsDoNotOverflow) {
  ThreadPool pool(1);
  on_every_target([&] {
    for (const PanelFormat format : {PanelFormat::kInt8, PanelFormat::kInt8Block, PanelFormat::kQ6K}) {
      const bool sixth = format == PanelFormat::kQ6K;
      for (const int sign : {-1, 1}) {
        constexpr std::int64_t kColumns = 2048;
        const std::vector<std::uint8_t> codes(kColumns, sixth ? (sign > 0 ? 63 : 0) : (sign > 0 ? 255 : 1));
        const std::vector<std::uint16_t> scales(kColumns / 32, f32_to_f16(1.0F));
        const std::vector<std::uint8_t> block_scales(kColumns / 16, 1);
        OutputCodes output;
        output.codes = codes.data();
        output.scale = 1.0F;
        output.scales = scales.data();
        output.block_scales = block_scales.data();
        const PanelShape shape = panel_shape(format, 1, kColumns);
        AlignedBuffer buffer(static_cast<std::size_t>(shape.total_bytes));
        pack_code_panel(format, &output, 1, kColumns, buffer.data());
        WeightMatrix matrix;
        matrix.rows = 1;
        matrix.columns = kColumns;
        matrix.data = buffer.data();
        matrix.layout = WeightLayout::kPanels;
        matrix.panels = format;
        matrix.activations = activations_of(format);
        for (const double x_sign : {-1.0, 1.0}) {
          Matrix x(1, kColumns), y(1, 1);
          x.fill([&] { return x_sign * 127.0; });
          linear(pool, x.in(), matrix, nullptr, y.out());
          const double weight = sixth ? (sign > 0 ? 31 : -32) : sign * 127;
          EXPECT_NEAR(y.at(0, 0), x_sign * 127.0 * weight * kColumns, 127.0 * 127.0 * kColumns * 1e-6);
        }
      }
    }
  });
}

TEST(LinearPanels, ARowThatIsNotFiniteGivesNoNumber) {
  ThreadPool pool(1);
  Random random(5);
  for (const PanelFormat format : kFormats) {
    const Panels weights(format, 16, 256, random);
    for (const float bad : {std::nanf(""), HUGE_VALF}) {
      Matrix x(1, 256), y(1, 16);
      x.fill_normal(random);
      x.at(0, 100) = bad;
      linear(pool, x.in(), weights.matrix(), nullptr, y.out());
      for (std::int64_t c = 0; c < 16; ++c) EXPECT_FALSE(std::isfinite(y.at(0, c))) << to_string(format);
    }
  }
}

TEST(Panels, UnpackGivesTheValuesBack) {
  ThreadPool pool(2);
  for (const PanelFormat format : kFormats) {
    Random random(9);
    const std::int64_t k = scale_group(format) == 256 ? 512 : scale_group(format) == 32 ? 96 : 70;
    const Panels weights(format, 37, k, random);
    const std::int32_t ids[] = {36, 0, 15, 16};
    Matrix y(4, k, 1, 1);
    embed(pool, weights.matrix(), ids, y.out());
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t c = 0; c < k; ++c) {
        ASSERT_NEAR(y.at(r, c), weights.value(ids[r], c), 4 * kRounding * (std::fabs(weights.value(ids[r], c)) + 1.0))
            << to_string(format);
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
