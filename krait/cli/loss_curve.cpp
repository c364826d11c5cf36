#include "krait/cli/loss_curve.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace krait::cli {
namespace {

// A loss that is not a number has no place in a picture, and one beyond all others would flatten it.
constexpr double kMost = 1e6;
constexpr int kLabelColumns = 8;

// Dots of a Braille character, (column, row) from the top left: bits of the code point U+2800 + bits.
constexpr int kDots[2][4] = {{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}};

std::string utf8(int code) {
  return {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

}  // namespace

void LossCurve::add(double step, double loss) {
  if (std::isfinite(loss) && std::fabs(loss) < kMost) points_.push_back({step, loss});
}

std::string LossCurve::draw(int columns, int rows) const {
  if (points_.size() < 2 || columns <= kLabelColumns || rows < 1) return {};
  const int across = 2 * (columns - kLabelColumns), up = 4 * rows;
  const double first = points_.front().step, span = std::max(1.0, points_.back().step - first);
  std::vector<double> sums(static_cast<std::size_t>(across)), counts(static_cast<std::size_t>(across));
  for (const Point& point : points_) {
    const auto at = static_cast<std::size_t>((point.step - first) / span * (across - 1));
    sums[at] += point.loss;
    counts[at] += 1.0;
  }
  double low = kMost, high = -kMost;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (counts[i] == 0.0) continue;
    sums[i] /= counts[i];
    low = std::min(low, sums[i]);
    high = std::max(high, sums[i]);
  }
  const double range = std::max(1e-9, high - low);
  std::vector<int> cells(static_cast<std::size_t>((columns - kLabelColumns) * rows));
  for (int x = 0; x < across; ++x) {
    const auto i = static_cast<std::size_t>(x);
    if (counts[i] == 0.0) continue;
    const int y = static_cast<int>(std::lround((high - sums[i]) / range * (up - 1)));
    cells[static_cast<std::size_t>(y / 4 * (columns - kLabelColumns) + x / 2)] |= kDots[x % 2][y % 4];
  }
  std::string out;
  for (int row = 0; row < rows; ++row) {
    const bool top = row == 0, bottom = row == rows - 1;
    out += top      ? fmt::format("{:>7.3f} ", high)
           : bottom ? fmt::format("{:>7.3f} ", low)
                    : std::string(kLabelColumns, ' ');
    for (int column = 0; column < columns - kLabelColumns; ++column) {
      out += utf8(0x2800 + cells[static_cast<std::size_t>(row * (columns - kLabelColumns) + column)]);
    }
    out += '\n';
  }
  return out;
}

}  // namespace krait::cli
