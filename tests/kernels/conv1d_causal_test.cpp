#include "krait/kernels/conv1d_causal.h"

#include <algorithm>

#include "krait/kernels/reference/elementwise.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::kernels {
namespace {

using tests::Expected;
using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;

struct Case {
  Matrix x, weight, bias, window;
  Conv1dCausal conv;

  Case(std::int64_t rows, std::int64_t channels, std::int64_t width, Random& random, bool with_bias = true)
      : x(rows, channels, 3, 1), weight(width, channels), bias(1, channels), window(width - 1, channels) {
    x.fill_normal(random);
    weight.fill_normal(random);
    bias.fill_normal(random);
    window.fill_normal(random);
    conv = {.width = width, .weight = weight.data(), .bias = with_bias ? bias.data() : nullptr, .silu = with_bias};
  }
};

// K multiply-adds and the bias: (K + 1) roundings of the sum of absolute terms; silu has slope below 1.1 and
// rounds 6 times itself.
void expect_matches_oracle(ThreadPool& pool, Case& c) {
  const std::int64_t rows = c.x.rows(), channels = c.x.columns();
  std::vector<double> window(c.window.data(), c.window.data() + c.window.rows() * channels);
  std::vector<double> magnitude_window;
  for (const double v : window) magnitude_window.push_back(std::fabs(v));
  Expected expected(rows, channels), magnitude(rows, channels);
  reference::conv1d_causal(c.conv, c.x.in(), window, expected.out());
  const Matrix x_abs = c.x.absolute(), weight_abs = c.weight.absolute(), bias_abs = c.bias.absolute();
  const Conv1dCausal abs_conv{.width = c.conv.width,
                              .weight = weight_abs.data(),
                              .bias = c.conv.bias == nullptr ? nullptr : bias_abs.data(),
                              .silu = false};
  reference::conv1d_causal(abs_conv, x_abs.in(), magnitude_window, magnitude.out());

  Matrix y(rows, channels, 2, 1);
  const SequenceRows sequence{.first_row = 0, .rows = rows, .state = c.window.bytes()};
  conv1d_causal(pool, c.conv, c.x.in(), {&sequence, 1}, y.out());
  tests::expect_near(y, expected, [&](auto r, auto e) {
    return kRounding *
           (1.1 * static_cast<double>(c.conv.width + 1) * magnitude.at(r, e) + 6.0 * std::fabs(expected.at(r, e)));
  });
  y.check_gaps();
  for (std::size_t i = 0; i < window.size(); ++i) ASSERT_EQ(c.window.data()[i], window[i]) << "window, at " << i;
}

TEST(Conv1dCausal, MatchesOracleAtEveryLengthAndWidth) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(1);
    for (const std::int64_t channels : tests::kLengths) {
      for (const std::int64_t width : {1, 2, 3, 4, 5, 16}) {
        for (const std::int64_t rows : {0, 1, 2, 3, 8, 9, 33}) {
          SCOPED_TRACE(::testing::Message() << channels << " channels, width " << width << ", " << rows << " rows");
          Case c(rows, channels, width, random, rows % 2 == 0);
          expect_matches_oracle(pool, c);
        }
      }
    }
  });
}

TEST(Conv1dCausal, SplitAnywhereGivesSameRowsAndWindow) {
  ThreadPool pool(2);
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {2, 4, 7}) {
      Case c(21, 37, width, random);
      Matrix y(21, 37), whole_window = c.window;
      const SequenceRows all{.first_row = 0, .rows = 21, .state = whole_window.bytes()};
      conv1d_causal(pool, c.conv, c.x.in(), {&all, 1}, y.out());
      for (std::int64_t cut = 0; cut <= 21; ++cut) {
        Matrix parts(21, 37), window = c.window;
        const SequenceRows first{.first_row = 0, .rows = cut, .state = window.bytes()};
        const SequenceRows second{.first_row = cut, .rows = 21 - cut, .state = window.bytes()};
        conv1d_causal(pool, c.conv, c.x.in(), {&first, 1}, parts.out());
        conv1d_causal(pool, c.conv, c.x.in(), {&second, 1}, parts.out());
        tests::expect_same_bits(parts, y);
        tests::expect_same_bits(window, whole_window);
      }
    }
  });
}

TEST(Conv1dCausal, SequencesOfABatchAndThreadsDoNotMatter) {
  on_every_target([&] {
    Random random(3);
    const Case c(60, 50, 4, random);
    tests::expect_sequences_and_threads_do_not_matter(
        50, c.window, [&](ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) {
          conv1d_causal(pool, c.conv, c.x.in(), sequences, y.out());
        });
  });
}

}  // namespace
}  // namespace krait::kernels
