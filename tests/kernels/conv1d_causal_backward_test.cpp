#include "krait/kernels/conv1d_causal_backward.h"

#include <string_view>

#include "krait/kernels/reference/conv1d_causal_backward.h"
#include "krait/kernels/reference/elementwise.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/kernels/layer_gradient_testing.h"
#include "tests/kernels/wide_matrix.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using tests::kRounding;
using tests::Matrix;
using tests::on_every_target;
using tests::WideMatrix;

// Inputs and gradients of one sequence in double.
struct Wide {
  std::int64_t width;
  bool silu, biased;
  WideMatrix x, weight, bias, window, dy, last;
  WideMatrix dx, dweight, dbias, first;

  Wide(std::int64_t rows, std::int64_t channels, std::int64_t taps, bool with_silu, bool with_bias)
      : width(taps),
        silu(with_silu),
        biased(with_bias),
        x(rows, channels),
        weight(taps, channels),
        bias(1, channels),
        window(taps - 1, channels),
        dy(rows, channels),
        last(taps - 1, channels),
        dx(rows, channels),
        dweight(taps, channels),
        dbias(1, channels),
        first(taps - 1, channels) {}

  Conv1dCausalOf<double> conv() const {
    return {.width = width, .weight = weight.data(), .bias = biased ? bias.data() : nullptr, .silu = silu};
  }
  void backward() {
    reference::conv1d_causal_backward(
        conv(), x.in(), window.data(), dy.in(), {.final_state = last.data(), .initial_state = first.data()},
        {.x = dx.out(), .weight = dweight.data(), .bias = biased ? dbias.data() : nullptr});
  }
};

TEST(Conv1dCausalBackward, OracleIsTheDerivativeOfTheForward) {
  Random random(1);
  for (const bool silu : {true, false}) {
    for (const std::int64_t width : {1, 2, 4, 7}) {
      for (const std::int64_t rows : {0, 1, 2, 11}) {
        SCOPED_TRACE(::testing::Message() << "silu " << silu << ", width " << width << ", " << rows << " rows");
        Wide c(rows, 3, width, silu, silu);
        for (WideMatrix* m : {&c.x, &c.weight, &c.bias, &c.window, &c.dy, &c.last}) m->fill_normal(random);
        c.backward();
        const auto loss = [&] {
          WideMatrix y(rows, 3), window = c.window;
          reference::conv1d_causal(c.conv(), c.x.in(), window.values(), y.out());
          return tests::weighted_sum(c.dy, y) + tests::weighted_sum(c.last, window);
        };
        tests::expect_derivatives(c.x.values(), c.dx.values(), loss);
        tests::expect_derivatives(c.weight.values(), c.dweight.values(), loss);
        tests::expect_derivatives(c.bias.values(), c.dbias.values(), loss);
        tests::expect_derivatives(c.window.values(), c.first.values(), loss);
      }
    }
  }
}

// Inputs in float, with a window for each sequence; `lengths` of the sequences one after the other.
struct Case {
  std::vector<std::int64_t> lengths;
  std::int64_t width;
  bool silu;
  Matrix x, weight, bias, dy;
  std::vector<Matrix> windows, last;

  Case(std::vector<std::int64_t> of, std::int64_t channels, std::int64_t taps, bool with_silu, Random& random)
      : lengths(std::move(of)), width(taps), silu(with_silu), weight(taps, channels), bias(1, channels) {
    std::int64_t rows = 0;
    for (const std::int64_t length : lengths) {
      rows += length;
      for (auto* each : {&windows, &last}) {
        each->emplace_back(width - 1, channels);
        each->back().fill_normal(random);
      }
    }
    x = Matrix(rows, channels, 3, 1);
    dy = Matrix(rows, channels, 1, 3);
    for (Matrix* m : {&x, &weight, &bias, &dy}) m->fill_normal(random);
  }
  std::int64_t channels() const { return x.columns(); }
  Conv1dCausal conv() const { return {.width = width, .weight = weight.data(), .bias = bias.data(), .silu = silu}; }
};

struct Gradients {
  Matrix x, weight, bias;
  std::vector<Matrix> first;

  Gradients(const Case& c, int threads)
      : x(c.x.rows(), c.channels(), 5, 1), weight(c.width, c.channels()), bias(1, c.channels()) {
    // Gradients of parameters are added to what is there.
    weight.fill([] { return 2.0; });
    bias.fill([] { return -1.0; });
    std::vector<Matrix> windows = c.windows;
    first.assign(windows.size(), Matrix(c.width - 1, c.channels()));
    std::vector<SequenceRows> sequences;
    std::vector<SequenceGradients> states;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < windows.size(); ++i) {
      sequences.push_back({.first_row = row, .rows = c.lengths[i], .state = windows[i].bytes()});
      states.push_back({.final_state = c.last[i].data(), .initial_state = first[i].data()});
      row += c.lengths[i];
    }
    ThreadPool pool(threads);
    conv1d_causal_backward(pool, c.conv(), c.x.in(), c.dy.in(), sequences, states,
                           {.x = x.out(), .weight = weight.data(), .bias = bias.data()});
    x.check_gaps();
    for (std::size_t i = 0; i < windows.size(); ++i) tests::expect_same_bits(windows[i], c.windows[i]);
  }
  void expect_same(const Gradients& other) const {
    tests::expect_same_bits(x, other.x);
    tests::expect_same_bits(weight, other.weight);
    tests::expect_same_bits(bias, other.bias);
    for (std::size_t i = 0; i < first.size(); ++i) tests::expect_same_bits(first[i], other.first[i]);
  }
};

// The sum before the activation is off by K + 1 roundings of its absolute terms, which silu's slope passes on by half
// at most; the slope itself rounds some ten times, once more for each unit of |s|. Everything after is a sum of K or of
// all rows' terms with an error each.
void expect_matches_oracle(const Case& c, const Gradients& actual) {
  const std::int64_t channels = c.channels();
  WideMatrix dweight(c.width, channels), dbias(1, channels), weight_bound(c.width, channels), bias_bound(1, channels);
  const auto expect = [](const Matrix& values, const WideMatrix& expected, const WideMatrix& bound) {
    for (std::int64_t r = 0; r < values.rows(); ++r) {
      for (std::int64_t i = 0; i < values.columns(); ++i) {
        ASSERT_NEAR(values.at(r, i), expected.at(r, i), bound.at(r, i) + tests::kTiny) << "row " << r << ", " << i;
      }
    }
  };
  const auto steps = static_cast<double>(c.x.rows() + 2), taps = static_cast<double>(c.width + 1);
  std::int64_t row = 0;
  WideMatrix all_dx(c.x.rows(), channels), all_bound(c.x.rows(), channels);
  for (std::size_t i = 0; i < c.lengths.size(); ++i) {
    const std::int64_t rows = c.lengths[i];
    const auto part = [&](const Matrix& from, bool absolute) {
      WideMatrix result(rows, channels);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t e = 0; e < channels; ++e) {
          result.at(r, e) = absolute ? std::fabs(from.at(row + r, e)) : from.at(row + r, e);
        }
      }
      return result;
    };
    const WideMatrix weight(c.weight), bias(c.bias), window(c.windows[i]), last(c.last[i]);
    const WideMatrix x = part(c.x, false), dy = part(c.dy, false), x_size = part(c.x, true);
    const WideMatrix weight_size(c.weight.absolute()), bias_size(c.bias.absolute());
    const WideMatrix window_size(c.windows[i].absolute()), last_size(c.last[i].absolute());
    const Conv1dCausalOf<double> conv{.width = c.width, .weight = weight.data(), .bias = bias.data(), .silu = c.silu};
    WideMatrix first(c.width - 1, channels), first_bound(c.width - 1, channels);
    reference::conv1d_causal_backward(
        conv, x.in(), window.data(), dy.in(), {.final_state = last.data(), .initial_state = first.data()},
        {.x = all_dx.out().slice_rows(row, rows), .weight = dweight.data(), .bias = dbias.data()});

    const Conv1dCausalOf<double> sums{.width = c.width, .weight = weight.data(), .bias = bias.data(), .silu = false};
    const Conv1dCausalOf<double> sizes{
        .width = c.width, .weight = weight_size.data(), .bias = bias_size.data(), .silu = false};
    WideMatrix s(rows, channels), s_size(rows, channels), ds_bound(rows, channels);
    WideMatrix left = window, left_size = window_size;
    reference::conv1d_causal(sums, x.in(), left.values(), s.out());
    reference::conv1d_causal(sizes, x_size.in(), left_size.values(), s_size.out());
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t e = 0; e < channels; ++e) {
        const double slope = c.silu ? reference::silu_slope(s.at(r, e)) : 1.0;
        const double slope_error =
            c.silu ? kRounding * (0.5 * taps * s_size.at(r, e) + 10.0 + std::fabs(s.at(r, e))) : 0.0;
        ds_bound.at(r, e) = std::fabs(dy.at(r, e)) * (slope_error + kRounding * (taps + 1.0) * std::fabs(slope));
      }
    }
    reference::conv1d_causal_backward(
        sizes, x_size.in(), window_size.data(), ds_bound.in(), {.initial_state = first_bound.data()},
        {.x = all_bound.out().slice_rows(row, rows), .weight = weight_bound.data(), .bias = bias_bound.data()});
    // Adding the window's gradient rounds once; sums over all rows round once a row.
    for (std::int64_t k = 0; k + 1 < c.width; ++k) {
      const std::int64_t to = rows - (c.width - 1) + k;
      for (std::int64_t e = 0; e < channels; ++e) {
        (to >= 0 ? all_bound.at(row + to, e) : first_bound.at(c.width - 1 + to, e)) +=
            2.0 * kRounding * last_size.at(k, e);
      }
    }
    WideMatrix ds_size(rows, channels), unused(rows, channels);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t e = 0; e < channels; ++e) {
        const double slope = c.silu ? reference::silu_slope(s.at(r, e)) : 1.0;
        ds_size.at(r, e) = kRounding * steps * std::fabs(dy.at(r, e) * slope);
      }
    }
    reference::conv1d_causal_backward(sizes, x_size.in(), window_size.data(), ds_size.in(), {},
                                      {.x = unused.out(), .weight = weight_bound.data(), .bias = bias_bound.data()});
    expect(actual.first[i], first, first_bound);
    row += rows;
  }
  for (double& v : dweight.values()) v += 2.0;
  for (double& v : dbias.values()) v -= 1.0;
  for (WideMatrix* bound : {&weight_bound, &bias_bound}) {
    for (double& v : bound->values()) v += 4.0 * kRounding;
  }
  expect(actual.x, all_dx, all_bound);
  expect(actual.weight, dweight, weight_bound);
  expect(actual.bias, dbias, bias_bound);
}

// Lengths round a task's 256 rows and a block's 4 steps.
TEST(Conv1dCausalBackward, MatchesOracleAtEveryLengthAndWidth) {
  on_every_target([&] {
    Random random(2);
    for (const std::int64_t width : {1, 2, 3, 4, 5, 16}) {
      for (const std::int64_t channels : {0, 1, 7, 16, 33}) {
        for (const std::int64_t rows : {0, 1, 2, 7, 8, 9, 33}) {
          SCOPED_TRACE(::testing::Message() << channels << " channels, width " << width << ", " << rows << " rows");
          const Case c({rows}, channels, width, rows % 2 == 0, random);
          expect_matches_oracle(c, Gradients(c, 1));
        }
      }
    }
    for (const std::int64_t width : {1, 4, 6}) {
      for (const std::int64_t rows : {255, 256, 257, 519}) {
        SCOPED_TRACE(::testing::Message() << "width " << width << ", " << rows << " rows");
        const Case c({rows}, 5, width, true, random);
        expect_matches_oracle(c, Gradients(c, 2));
      }
    }
    const Case wide({12}, 1030, 4, true, random);
    expect_matches_oracle(wide, Gradients(wide, 2));
  });
}

TEST(Conv1dCausalBackward, SequencesMatchOracleOnAnyNumberOfThreads) {
  on_every_target([&] {
    Random random(3);
    const Case c({1, 0, 300, 2, 3, 30, 9, 257}, 21, 4, true, random);
    const Gradients one(c, 1);
    expect_matches_oracle(c, one);
    one.expect_same(Gradients(c, 2));
    one.expect_same(Gradients(c, 3));
  });
}

TEST(Conv1dCausalBackward, WhatIsAbsentCountsAsZeroAndIsNotWritten) {
  on_every_target([&] {
    Random random(4);
    Case c({9, 2}, 18, 4, true, random);
    for (std::vector<Matrix>* each : {&c.windows, &c.last}) {
      for (Matrix& m : *each) m.fill([] { return 0.0; });
    }
    const Gradients all(c, 1);
    Matrix x(11, 18);
    ThreadPool pool(1);
    const SequenceRows sequences[] = {{.first_row = 0, .rows = 9}, {.first_row = 9, .rows = 2}};
    conv1d_causal_backward(pool, c.conv(), c.x.in(), c.dy.in(), sequences, {}, {.x = x.out()});
    tests::expect_same_bits(x, all.x);
  });
}

// A sequence read from its end is one with its rows the other way round.
TEST(Conv1dCausalBackward, RowsMayRunBackwards) {
  on_every_target([&] {
    Random random(5);
    const Case c({30}, 18, 4, true, random);
    const Gradients forwards(c, 1);
    const auto reversed = [](const Matrix& from) {
      Matrix result(from.rows(), from.columns());
      for (std::int64_t r = 0; r < from.rows(); ++r) {
        for (std::int64_t i = 0; i < from.columns(); ++i) result.at(from.rows() - 1 - r, i) = from.at(r, i);
      }
      return result;
    };
    const auto backwards = [](auto rows) {
      auto result = rows;
      result.data = rows.row(rows.rows - 1);
      result.stride = -rows.stride;
      return result;
    };
    const Matrix x = reversed(c.x), dy = reversed(c.dy);
    Matrix dx(30, 18), window = c.windows[0];
    ThreadPool pool(1);
    const SequenceRows sequence{.first_row = 0, .rows = 30, .state = window.bytes()};
    const SequenceGradients states{.final_state = c.last[0].data()};
    conv1d_causal_backward(pool, c.conv(), backwards(x.in()), backwards(dy.in()), {&sequence, 1}, {&states, 1},
                           {.x = backwards(dx.out())});
    tests::expect_same_bits(reversed(dx), forwards.x);
  });
}

class GoldenConvBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenConvBackward, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const tests::Golden golden(tests::file_of(path, GetParam()));
  const tests::Tensor x = golden.read("in.x"), w = golden.read("in.weight"), dy = golden.read("up.y");
  const tests::Tensor dx = golden.read("grad.x"), dw = golden.read("grad.weight");
  const tests::Tensor last = golden.read("up.window");
  const std::int64_t batch = x.size(0), channels = x.size(1), length = x.size(2), width = w.size(1);
  const bool biased = golden.has("in.bias"), begun = golden.has("in.window0");
  const auto read = [&](bool there, const char* name) { return there ? golden.read(name) : tests::Tensor(); };
  const tests::Tensor b = read(biased, "in.bias"), db = read(biased, "grad.bias");
  const tests::Tensor before = read(begun, "in.window0"), dbefore = read(begun, "grad.window0");
  const bool silu = std::string_view(GetParam()).find("noact") == std::string_view::npos;
  Matrix weight = tests::matrix_of(width, channels, [&](auto k, auto c) { return w.at({c, k}); });
  Matrix bias = tests::matrix_of(1, channels, [&](auto, auto c) { return biased ? b.at({c}) : 0.0; });
  // All of the batch in one call: sequences one after the other, segments of a packed one too.
  const auto rows_of = [&](const tests::Tensor& from) {
    return tests::matrix_of(batch * length, channels,
                            [&](auto r, auto c) { return from.at({r / length, c, r % length}); });
  };
  const auto windows_of = [&](const tests::Tensor& from) {
    return tests::matrix_of(batch * (width - 1), channels,
                            [&](auto r, auto c) { return from.at({r / (width - 1), c, r % (width - 1)}); });
  };
  const Matrix rows = rows_of(x), gradient = rows_of(dy), lasts = windows_of(last);
  Matrix windows = begun ? windows_of(before) : Matrix(batch * (width - 1), channels);
  const WideMatrix wide_rows(rows), wide_gradient(gradient), wide_weight(weight), wide_bias(bias), wide_lasts(lasts);
  const WideMatrix wide_windows(windows);

  std::vector<SequenceRows> sequences;
  std::vector<std::int64_t> entries;  // of the batch
  std::vector<bool> leaves;
  for (std::int64_t n = 0; n < batch; ++n) {
    const std::vector<SequenceRows> parts = tests::segments(golden, n, length);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      sequences.push_back({.first_row = n * length + parts[i].first_row,
                           .rows = parts[i].rows,
                           .state = i == 0 ? windows.bytes() + n * (width - 1) * channels * 4 : nullptr});
      entries.push_back(n);
      leaves.push_back(i + 1 == parts.size());
    }
  }
  const auto compare = [&](auto&& actual_x, auto&& actual_weight, auto&& actual_bias, auto&& actual_window,
                           double tolerance) {
    for (std::int64_t n = 0; n < batch; ++n) {
      for (std::int64_t c = 0; c < channels; ++c) {
        for (std::int64_t t = 0; t < length; ++t) {
          ASSERT_NEAR(actual_x(n * length + t, c), dx.at({n, c, t}), tolerance * dx.largest);
        }
        for (std::int64_t k = 0; begun && k + 1 < width; ++k) {
          ASSERT_NEAR(actual_window(n * (width - 1) + k, c), dbefore.at({n, c, k}), tolerance * dbefore.largest);
        }
      }
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t k = 0; k < width; ++k) {
        ASSERT_NEAR(actual_weight(k, c), dw.at({c, k}), tolerance * dw.largest);
      }
      if (biased) {
        ASSERT_NEAR(actual_bias(0, c), db.at({c}), tolerance * db.largest);
      }
    }
  };

  WideMatrix got_x(batch * length, channels), got_weight(width, channels), got_bias(1, channels);
  WideMatrix got_windows(batch * (width - 1), channels);
  const Conv1dCausalOf<double> wide{
      .width = width, .weight = wide_weight.data(), .bias = biased ? wide_bias.data() : nullptr, .silu = silu};
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const SequenceRows& part = sequences[i];
    const std::int64_t at = entries[i] * (width - 1);
    const bool first = part.state != nullptr;
    reference::conv1d_causal_backward(
        wide, wide_rows.in().slice_rows(part.first_row, part.rows), first ? wide_windows.in().row(at) : nullptr,
        wide_gradient.in().slice_rows(part.first_row, part.rows),
        {.final_state = leaves[i] ? wide_lasts.in().row(at) : nullptr,
         .initial_state = first ? got_windows.out().row(at) : nullptr},
        {.x = got_x.out().slice_rows(part.first_row, part.rows), .weight = got_weight.data(), .bias = got_bias.data()});
  }
  const auto at = [](const auto& m) { return [&m](std::int64_t r, std::int64_t c) { return double{m.at(r, c)}; }; };
  compare(at(got_x), at(got_weight), at(got_bias), at(got_windows), 1e-9);

  ThreadPool pool(2);
  const Conv1dCausal conv{
      .width = width, .weight = weight.data(), .bias = biased ? bias.data() : nullptr, .silu = silu};
  on_every_target([&] {
    Matrix to_x(batch * length, channels), to_weight(width, channels), to_bias(1, channels);
    Matrix to_windows(batch * (width - 1), channels);
    std::vector<SequenceGradients> states;
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const std::int64_t row = entries[i] * (width - 1);
      states.push_back({.final_state = leaves[i] ? lasts.in().row(row) : nullptr,
                        .initial_state = sequences[i].state != nullptr ? to_windows.out().row(row) : nullptr});
    }
    conv1d_causal_backward(pool, conv, rows.in(), gradient.in(), sequences, states,
                           {.x = to_x.out(), .weight = to_weight.data(), .bias = to_bias.data()});
    compare(at(to_x), at(to_weight), at(to_bias), at(to_windows), 1e-5);
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenConvBackward,
                         ::testing::Values("conv_L16_K2", "conv_L1_K4_window", "conv_L33_K3_noact_nobias",
                                           "conv_L64_K4_window", "conv_L7_K4", "conv_packed"));

}  // namespace
}  // namespace krait::kernels
