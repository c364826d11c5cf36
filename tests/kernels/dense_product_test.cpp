#include "krait/kernels/dense_product.h"

#include <utility>
#include "krait/core/check.h"

#include "krait/core/dtype.h"
#include "krait/kernels/reference/dense_product.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/wide_matrix.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::WideMatrix;

const std::vector<GemmForm> kForms = {
    {},
    {.b_transposed = true},
    {.a_transposed = true},
    {.a_transposed = true, .b_transposed = true},
};

Matrix rounded_to_bf16(const Matrix& m) {
  Matrix result = m;
  for (std::int64_t r = 0; r < m.rows(); ++r) {
    for (std::int64_t c = 0; c < m.columns(); ++c) result.at(r, c) = bf16_to_f32(f32_to_bf16(m.at(r, c)));
  }
  return result;
}

struct Case {
  GemmForm form;
  Matrix a, b, before;

  Case(GemmForm of, std::int64_t m, std::int64_t n, std::int64_t k, Random& random) : form(of) {
    a = form.a_transposed ? Matrix(k, m, 3, 1) : Matrix(m, k, 3, 1);
    b = form.b_transposed ? Matrix(n, k, 1) : Matrix(k, n, 1);
    before = Matrix(m, n, 5, 3);
    a.fill_normal(random);
    b.fill_normal(random);
    before.fill_normal(random);
  }

  // K products and K additions of any order: (K + 1) roundings of the sum of absolute terms, C's old value among them.
  void expect_near(const Matrix& c, ProductPrecision precision) const {
    const bool narrow = precision == ProductPrecision::kBF16;
    const Matrix in_a = narrow ? rounded_to_bf16(a) : a, in_b = narrow ? rounded_to_bf16(b) : b;
    WideMatrix expected(before), magnitude(before.absolute());
    reference::dense_product(form, WideMatrix(in_a).in(), WideMatrix(in_b).in(), expected.out());
    reference::dense_product(form, WideMatrix(in_a.absolute()).in(), WideMatrix(in_b.absolute()).in(), magnitude.out());
    const auto depth = static_cast<double>(form.a_transposed ? a.rows() : a.columns());
    for (std::int64_t r = 0; r < c.rows(); ++r) {
      for (std::int64_t i = 0; i < c.columns(); ++i) {
        ASSERT_NEAR(c.at(r, i), expected.at(r, i), (depth + 1.0) * kRounding * magnitude.at(r, i) + tests::kTiny)
            << "row " << r << ", column " << i;
      }
    }
    c.check_gaps();
  }

  Matrix product(int threads, ProductPrecision precision) const {
    ThreadPool pool(threads);
    Matrix c = before;
    dense_product(pool, form, a.in(), b.in(), c.out(), precision);
    return c;
  }
};

void check_all_forms(std::int64_t m, std::int64_t n, std::int64_t k, ProductPrecision precision) {
  Random random(static_cast<std::uint64_t>(m + 10 * n + 100 * k));
  for (GemmForm form : kForms) {
    for (const bool add : {false, true}) {
      form.add = add;
      SCOPED_TRACE(::testing::Message() << m << " x " << n << " x " << k << ", a " << form.a_transposed << ", b "
                                        << form.b_transposed << ", add " << add);
      const Case c(form, m, n, k, random);
      const Matrix one = c.product(1, precision);
      c.expect_near(one, precision);
      tests::expect_same_bits(c.product(2, precision), one);
      tests::expect_same_bits(c.product(3, precision), one);
    }
  }
}

TEST(DenseProduct, EveryFormMatchesOracleAtOddSizes) {
  for (const std::int64_t m : {0, 1, 5, 33}) {
    for (const std::int64_t n : {0, 1, 7, 48}) {
      for (const std::int64_t k : {0, 1, 3, 40}) check_all_forms(m, n, k, ProductPrecision::kF32);
    }
  }
}

// Sizes round those of the tiles, in either direction.
TEST(DenseProduct, TilesMeetWithoutASeam) {
  check_all_forms(513, 193, 17, ProductPrecision::kF32);
  check_all_forms(255, 1537, 9, ProductPrecision::kF32);
  check_all_forms(1100, 80, 5, ProductPrecision::kF32);
}

// A tile of 2049 rows of K is rounded in two parts.
TEST(DenseProduct, Bf16RoundsItsOperandsAlone) {
  if (!gemm_bf16_available()) GTEST_SKIP() << "skipped: no bf16 product on this CPU";
  for (const std::int64_t m : {1, 5, 33}) {
    for (const std::int64_t n : {1, 7, 48}) {
      for (const std::int64_t k : {0, 1, 3, 40}) check_all_forms(m, n, k, ProductPrecision::kBF16);
    }
  }
  check_all_forms(300, 200, 17, ProductPrecision::kBF16);
  check_all_forms(9, 11, 2049, ProductPrecision::kBF16);
}

// Rows of one part and of several, whose sums are at most as long as there are rows.
TEST(BiasBackward, AddsAllRowsOnAnyNumberOfThreads) {
  Random random(1);
  for (const auto& [rows, columns] : {std::pair{0, 5}, {1, 1}, {9, 33}, {40, 4100}}) {
    Matrix dy(rows, columns, 2, 1), first(1, columns);
    dy.fill_normal(random);
    WideMatrix expected(1, columns), size(1, columns);
    reference::bias_backward(WideMatrix(dy).in(), expected.data());
    reference::bias_backward(WideMatrix(dy.absolute()).in(), size.data());
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      Matrix dbias(1, columns);
      dbias.fill([] { return 2.0; });
      bias_backward(pool, dy.in(), dbias.data());
      if (threads == 1) first = dbias;
      tests::expect_same_bits(dbias, first);
      for (std::int64_t c = 0; c < columns; ++c) {
        ASSERT_NEAR(dbias.at(0, c), 2.0 + expected.at(0, c), kRounding * (rows + 1) * (2.0 + size.at(0, c)));
      }
    }
  }
}

TEST(DenseProduct, ShapesThatDoNotFitAreCaught) {
  ThreadPool pool(1);
  Matrix a(3, 4), b(5, 4), c(3, 5), narrow(3, 4);
  EXPECT_NO_THROW(dense_product(pool, {.b_transposed = true}, a.in(), b.in(), c.out()));
  EXPECT_THROW(dense_product(pool, {}, a.in(), b.in(), c.out()), InternalError);
  EXPECT_THROW(dense_product(pool, {.b_transposed = true}, a.in(), b.in(), narrow.out()), InternalError);
  RowsIn backwards = a.in();
  backwards.stride = -4;
  EXPECT_THROW(dense_product(pool, {.b_transposed = true}, backwards, b.in(), c.out()), InternalError);
}

}  // namespace
}  // namespace krait::kernels
