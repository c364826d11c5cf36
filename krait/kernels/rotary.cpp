#include "krait/kernels/rotary.h"

#include <cmath>
#include <vector>

#include "krait/core/check.h"
#include "krait/kernels/row_grain.h"

namespace krait::kernels {
namespace {

// One head: x[first], x[second] of every pair. The compiler vectorises both. `sign` of the angles: -1 turns back.
void rotate_halves(const float* cosines, const float* sines, float sign, std::int64_t pairs, float* x) {
  float* const first = x;
  float* const second = x + pairs;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const float a = first[i], b = second[i];
    const float cosine = cosines[i], sine = sign * sines[i];
    first[i] = a * cosine - b * sine;
    second[i] = b * cosine + a * sine;
  }
}

void rotate_neighbours(const float* cosines, const float* sines, float sign, std::int64_t pairs, float* x) {
  for (std::int64_t i = 0; i < pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    const float cosine = cosines[i], sine = sign * sines[i];
    x[2 * i] = a * cosine - b * sine;
    x[2 * i + 1] = b * cosine + a * sine;
  }
}

void rotate_by(ThreadPool& pool, const Rotary& rotary, RowsIn table, float sign, std::int64_t head_width, RowsOut x) {
  KRAIT_CHECK_EQ(table.rows, x.rows);
  KRAIT_CHECK(rotary.width <= head_width && x.columns % head_width == 0, "rotating {} of {} in {} columns",
              rotary.width, head_width, x.columns);
  const std::int64_t pairs = rotary.width / 2;
  pool.parallel_for(x.rows, rows_per_task(x.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* const cosines = table.row(row);
      for (std::int64_t at = 0; at < x.columns; at += head_width) {
        if (rotary.neighbours) {
          rotate_neighbours(cosines, cosines + pairs, sign, pairs, x.row(row) + at);
        } else {
          rotate_halves(cosines, cosines + pairs, sign, pairs, x.row(row) + at);
        }
      }
    }
  });
}

}  // namespace

void rotary_table(ThreadPool& pool, const Rotary& rotary, std::span<const std::int64_t> positions, RowsOut table) {
  KRAIT_CHECK_EQ(table.rows, static_cast<std::int64_t>(positions.size()));
  KRAIT_CHECK_EQ(table.columns, rotary.width);
  KRAIT_CHECK_EQ(rotary.width % 2, 0);
  const std::int64_t pairs = rotary.width / 2;
  std::vector<double> frequencies(static_cast<std::size_t>(pairs));
  for (std::int64_t i = 0; i < pairs; ++i) {
    frequencies[static_cast<std::size_t>(i)] =
        std::pow(rotary.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary.width)) /
        (rotary.divisors == nullptr ? 1.0 : double{rotary.divisors[i]});
  }
  pool.parallel_for(table.rows, rows_per_task(16 * rotary.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto position = static_cast<double>(positions[static_cast<std::size_t>(row)]);
      for (std::int64_t i = 0; i < pairs; ++i) {
        const double angle = position * frequencies[static_cast<std::size_t>(i)];
        table.row(row)[i] = static_cast<float>(std::cos(angle));
        table.row(row)[pairs + i] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

void rotate(ThreadPool& pool, const Rotary& rotary, RowsIn table, std::int64_t head_width, RowsOut x) {
  rotate_by(pool, rotary, table, 1.0F, head_width, x);
}

void rotate_backward(ThreadPool& pool, const Rotary& rotary, RowsIn table, std::int64_t head_width, RowsOut x) {
  rotate_by(pool, rotary, table, -1.0F, head_width, x);
}

}  // namespace krait::kernels
