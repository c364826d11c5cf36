#include "krait/kernels/rotary.h"

#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Matrix;

TEST(Rotary, TurnsPairsByAnglesOfTheirPosition) {
  Random random(3);
  ThreadPool pool(2);
  const std::vector<std::int64_t> positions = {0, 1, 7, 131071};
  for (const bool neighbours : {false, true}) {
    const Rotary rotary = {.width = 6, .theta = 1e4, .neighbours = neighbours};
    Matrix x(4, 3 * 10, 2, 1), table(4, 6);
    x.fill_normal(random);
    const Matrix before = x;
    rotary_table(pool, rotary, positions, table.out());
    rotate(pool, rotary, table.in(), 10, x.out());
    x.check_gaps();
    for (std::int64_t row = 0; row < 4; ++row) {
      for (std::int64_t head = 0; head < 3; ++head) {
        for (std::int64_t pair = 0; pair < 3; ++pair) {
          const std::int64_t first = 10 * head + (neighbours ? 2 * pair : pair);
          const std::int64_t second = neighbours ? first + 1 : first + 3;
          const double angle = static_cast<double>(positions[static_cast<std::size_t>(row)]) *
                               std::pow(1e4, -2.0 * static_cast<double>(pair) / 6.0);
          const double a = before.at(row, first), b = before.at(row, second);
          // Cosine and sine are rounded once, each product and the sum once more.
          const double bound = 3.0 * tests::kRounding * (std::fabs(a) + std::fabs(b));
          ASSERT_NEAR(x.at(row, first), a * std::cos(angle) - b * std::sin(angle), bound);
          ASSERT_NEAR(x.at(row, second), b * std::cos(angle) + a * std::sin(angle), bound);
        }
        for (std::int64_t c = 10 * head + 6; c < 10 * head + 10; ++c) ASSERT_EQ(x.at(row, c), before.at(row, c));
      }
    }
  }
}

}  // namespace
}  // namespace krait::kernels
