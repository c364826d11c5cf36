// Oracle and kernels against float64 results of the authors' code (../shared/golden/ops, README there): the oracle
// to 1e-9 and the kernels to 1e-5 of the largest element, the tolerances that collection states. States there are
// [channel, state] and [head, head_dim, state]; ours are [N, E] and [H, N, P].
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <span>

#include "krait/kernels/conv1d_causal.h"
#include "krait/kernels/norm.h"
#include "krait/kernels/reference/scan.h"
#include "krait/kernels/reference/scan_delta.h"
#include "krait/kernels/scan_selective.h"
#include "krait/kernels/scan_ssd.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using tests::expect_element;
using tests::Expected;
using tests::file_of;
using tests::Golden;
using tests::kKernelTolerance;
using tests::kOracleTolerance;
using tests::Matrix;
using tests::on_every_target;
using tests::segments;
using tests::Tensor;

template <class Value>
Matrix matrix(std::int64_t rows, std::int64_t columns, Value&& value) {
  Matrix result(rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) result.at(r, c) = static_cast<float>(value(r, c));
  }
  return result;
}

std::vector<double> widened(const Matrix& m) { return {m.data(), m.data() + m.rows() * m.columns()}; }

// Runs the oracle on every segment and then the kernel on all of them in one call, on every target. `oracle` and
// `kernel` fill y; start is the state of a first segment (later ones start from zero). Compares y with value(t, c)
// and the last segment's state with final_value(i).
struct Scan {
  std::int64_t length, columns;
  Matrix start;
  std::vector<SequenceRows> parts;
  std::function<void(SequenceRows part, std::span<double> state, Rows<double> y)> oracle;
  std::function<void(std::span<const SequenceRows> parts, RowsOut y)> kernel;
  std::function<double(std::int64_t, std::int64_t)> value;
  std::function<double(std::int64_t, std::int64_t)> final_value;  // (row, column) of the state
  double largest, largest_state;
  double oracle_tolerance = kOracleTolerance;
};

void check(const Scan& scan) {
  Expected y(scan.length, scan.columns);
  std::vector<double> state = widened(scan.start);
  for (std::size_t i = 0; i < scan.parts.size(); ++i) {
    if (i > 0) std::fill(state.begin(), state.end(), 0.0);
    const SequenceRows& part = scan.parts[i];
    scan.oracle(part, state, y.out().slice_rows(part.first_row, part.rows));
  }
  const auto compare = [&](auto&& actual, auto&& actual_state, double tolerance) {
    for (std::int64_t t = 0; t < scan.length; ++t) {
      for (std::int64_t c = 0; c < scan.columns; ++c) {
        expect_element(actual(t, c), scan.value(t, c), tolerance, scan.largest);
      }
    }
    for (std::int64_t r = 0; r < scan.start.rows(); ++r) {
      for (std::int64_t c = 0; c < scan.start.columns(); ++c) {
        expect_element(actual_state(r, c), scan.final_value(r, c), tolerance, scan.largest_state);
      }
    }
  };
  compare([&](auto t, auto c) { return y.at(t, c); },
          [&](auto r, auto c) { return state[static_cast<std::size_t>(r * scan.start.columns() + c)]; },
          scan.oracle_tolerance);

  ThreadPool pool(2);
  on_every_target([&] {
    std::vector<Matrix> states(scan.parts.size(), Matrix(scan.start.rows(), scan.start.columns()));
    states.front() = scan.start;
    std::vector<SequenceRows> parts = scan.parts;
    for (std::size_t i = 0; i < parts.size(); ++i) parts[i].state = states[i].bytes();
    Matrix actual(scan.length, scan.columns);
    scan.kernel(parts, actual.out());
    compare([&](auto t, auto c) { return actual.at(t, c); }, [&](auto r, auto c) { return states.back().at(r, c); },
            kKernelTolerance);
  });
}

class GoldenConv : public ::testing::TestWithParam<const char*> {};
class GoldenNorm : public ::testing::TestWithParam<const char*> {};
class GoldenSelective : public ::testing::TestWithParam<const char*> {};
class GoldenSsd : public ::testing::TestWithParam<const char*> {};
class GoldenDelta : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenConv, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(file_of(path, GetParam()));
  const Tensor x = golden.read("in.x"), w = golden.read("in.weight"), y = golden.read("out.y");
  const Tensor window = golden.read("out.window");
  const std::int64_t channels = x.size(1), length = x.size(2), width = w.size(1);
  const Matrix weight = matrix(width, channels, [&](auto k, auto c) { return w.at({c, k}); });
  const bool biased = golden.has("in.bias");
  const Tensor b = biased ? golden.read("in.bias") : Tensor();
  const Matrix bias = matrix(1, channels, [&](auto, auto c) { return biased ? b.at({c}) : 0.0; });
  const Conv1dCausal conv{.width = width,
                          .weight = weight.data(),
                          .bias = biased ? bias.data() : nullptr,
                          .silu = std::string_view(GetParam()).find("noact") == std::string_view::npos};
  for (std::int64_t n = 0; n < x.size(0); ++n) {
    const Matrix rows = matrix(length, channels, [&](auto t, auto c) { return x.at({n, c, t}); });
    Matrix start(width - 1, channels);
    if (golden.has("in.window0")) {
      const Tensor before = golden.read("in.window0");
      start = matrix(width - 1, channels, [&](auto k, auto c) { return before.at({n, c, k}); });
    }
    ThreadPool pool(2);
    check({.length = length,
           .columns = channels,
           .start = start,
           .parts = segments(golden, n, length),
           .oracle =
               [&](SequenceRows part, std::span<double> state, Rows<double> out) {
                 reference::conv1d_causal(conv, rows.in().slice_rows(part.first_row, part.rows), state, out);
               },
           .kernel = [&](auto parts, RowsOut out) { conv1d_causal(pool, conv, rows.in(), parts, out); },
           .value = [&](auto t, auto c) { return y.at({n, c, t}); },
           .final_value = [&](auto k, auto c) { return window.at({n, c, k}); },
           .largest = y.largest,
           .largest_state = window.largest});
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenConv,
                         ::testing::Values("conv_L16_K2", "conv_L1_K4_window", "conv_L33_K3_noact_nobias",
                                           "conv_L64_K4_window", "conv_L7_K4", "conv_packed"));

TEST_P(GoldenNorm, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  const Golden golden(file_of(path, GetParam()));
  const Tensor x = golden.read("in.x"), w = golden.read("in.weight"), y = golden.read("out.y");
  const std::int64_t columns = x.size(2), rows = x.size(0) * x.size(1);
  const auto flat = [&](const Tensor& tensor) {
    return matrix(rows, columns, [&](auto r, auto c) { return tensor.at({r / x.size(1), r % x.size(1), c}); });
  };
  const Matrix input = flat(x), weight = matrix(1, columns, [&](auto, auto c) { return w.at({c}); });
  const bool gated = golden.has("in.z");
  const Matrix gate = gated ? flat(golden.read("in.z")) : Matrix();
  const std::int64_t groups = name.ends_with("grouped") ? columns / 8 : 1;  // group_size 8
  const GateOrder order = name.starts_with("norm_gate_then_norm") ? GateOrder::kGateThenNorm : GateOrder::kNormThenGate;
  const bool finer = name == "norm_norm_then_gate_grouped";
  const double epsilon = finer ? 1e-6 : 1e-5;
  const float epsilon_f32 = finer ? 1e-6F : 1e-5F;
  Expected expected(rows, columns);
  if (gated) {
    reference::gated_rms_norm(input.in(), gate.in(), weight.data(), epsilon, groups, order, expected.out());
  } else {
    reference::rms_norm(input.in(), weight.data(), epsilon, expected.out());
  }
  const auto golden_at = [&](auto r, auto c) { return y.at({r / x.size(1), r % x.size(1), c}); };
  ThreadPool pool(2);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      expect_element(expected.at(r, c), golden_at(r, c), kOracleTolerance, y.largest);
    }
  }
  on_every_target([&] {
    Matrix actual(rows, columns);
    if (gated) {
      gated_rms_norm(pool, input.in(), gate.in(), weight.data(), epsilon_f32, groups, order, actual.out());
    } else {
      rms_norm(pool, input.in(), weight.data(), epsilon_f32, actual.out());
    }
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        expect_element(actual.at(r, c), golden_at(r, c), kKernelTolerance, y.largest);
      }
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenNorm,
                         ::testing::Values("norm_gate_then_norm", "norm_gate_then_norm_grouped", "norm_norm_then_gate",
                                           "norm_norm_then_gate_grouped", "norm_plain"));

TEST_P(GoldenSelective, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(file_of(path, GetParam()));
  const Tensor u = golden.read("in.u"), delta = golden.read("in.delta"), a_in = golden.read("in.A");
  const Tensor b_in = golden.read("in.B"), c_in = golden.read("in.C");
  const Tensor y = golden.read("out.y"), last = golden.read("out.last_state");
  const std::int64_t channels = u.size(1), length = u.size(2), states = a_in.size(1);
  // Constant B and C stand as [channel, state]: a group for every channel.
  const bool constant = b_in.shape.size() == 2;
  const std::int64_t groups = constant ? channels : b_in.size(1);
  const Matrix a = matrix(states, channels, [&](auto n, auto e) { return a_in.at({e, n}); });
  const auto vector = [&](const char* name) {
    if (!golden.has(name)) return Matrix();
    const Tensor tensor = golden.read(name);
    return matrix(1, channels, [&](auto, auto e) { return tensor.at({e}); });
  };
  const Matrix d = vector("in.D"), bias = vector("in.delta_bias");
  const SelectiveScan scan{.channels = channels,
                           .states = states,
                           .groups = groups,
                           .a = a.data(),
                           .d = d.rows() > 0 ? d.data() : nullptr,
                           .dt_bias = bias.rows() > 0 ? bias.data() : nullptr,
                           .dt_softplus = std::string_view(GetParam()).find("plain") == std::string_view::npos};
  const bool gated = golden.has("in.z");
  const Tensor z_in = gated ? golden.read("in.z") : Tensor();
  for (std::int64_t n = 0; n < u.size(0); ++n) {
    const auto rows_of = [&](const Tensor& tensor) {
      return matrix(length, channels, [&](auto t, auto e) { return tensor.at({n, e, t}); });
    };
    const auto grouped = [&](const Tensor& tensor) {
      return matrix(length, groups * states, [&](auto t, auto i) {
        const std::int64_t group = i / states, state = i % states;
        return constant ? tensor.at({group, state}) : tensor.at({n, group, state, t});
      });
    };
    const Matrix x = rows_of(u), dt = rows_of(delta), b = grouped(b_in), c = grouped(c_in);
    const Matrix z = gated ? rows_of(z_in) : Matrix();
    const RowsIn gate = gated ? z.in() : RowsIn();
    Matrix start(states, channels);
    if (golden.has("in.state0")) {
      const Tensor before = golden.read("in.state0");
      start = matrix(states, channels, [&](auto s, auto e) { return before.at({n, e, s}); });
    }
    ThreadPool pool(2);
    check(
        {.length = length,
         .columns = channels,
         .start = start,
         .parts = segments(golden, n, length),
         .oracle =
             [&](SequenceRows part, std::span<double> state, Rows<double> out) {
               const auto cut = [&](RowsIn rows) {
                 return rows.empty() ? rows : rows.slice_rows(part.first_row, part.rows);
               };
               reference::selective_scan(scan, cut(x.in()), cut(dt.in()), cut(b.in()), cut(c.in()), cut(gate), state,
                                         out);
             },
         .kernel = [&](auto parts,
                       RowsOut out) { selective_scan(pool, scan, x.in(), dt.in(), b.in(), c.in(), gate, parts, out); },
         .value = [&](auto t, auto e) { return y.at({n, e, t}); },
         .final_value = [&](auto s, auto e) { return last.at({n, e, s}); },
         .largest = y.largest,
         .largest_state = last.largest});
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSelective,
                         ::testing::Values("sel_L129_N16_G2_full", "sel_L129_N8_z_noD", "sel_L1_N16_full",
                                           "sel_L64_N16_constBC", "sel_L64_N16_initial", "sel_L64_N16_plain",
                                           "sel_L64_N8_noz", "sel_L7_N16_G2_full", "sel_L7_N8_initial", "sel_packed"));

TEST_P(GoldenSsd, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const std::string_view name = GetParam();
  const Golden golden(file_of(path, GetParam()));
  const Tensor x_in = golden.read("in.x"), dt_in = golden.read("in.dt"), a_in = golden.read("in.A");
  const Tensor b_in = golden.read("in.B"), c_in = golden.read("in.C"), bias_in = golden.read("in.dt_bias");
  const Tensor d_in = golden.read("in.D"), y = golden.read("out.y"), last = golden.read("out.final_state");
  const std::int64_t length = x_in.size(1), heads = x_in.size(2), width = x_in.size(3);
  const std::int64_t groups = b_in.size(2), states = b_in.size(3);
  const bool per_channel = d_in.shape.size() == 2;
  const Matrix a = matrix(1, heads, [&](auto, auto h) { return a_in.at({h}); });
  const Matrix bias = matrix(1, heads, [&](auto, auto h) { return bias_in.at({h}); });
  const Matrix d = matrix(1, per_channel ? heads * width : heads,
                          [&](auto, auto i) { return per_channel ? d_in.at({i / width, i % width}) : d_in.at({i}); });
  SsdScan scan{.heads = heads,
               .head_width = width,
               .states = states,
               .groups = groups,
               .chunk = 16,
               .a = a.data(),
               .d = d.data(),
               .d_per_channel = per_channel,
               .dt_bias = bias.data()};
  const bool limited = name.find("dtlimit") != std::string_view::npos;
  if (limited) {
    scan.dt_low = 0.05F;
    scan.dt_high = 0.2F;
  }
  const bool gated = golden.has("in.z");
  const Tensor z = gated ? golden.read("in.z") : Tensor();
  for (std::int64_t n = 0; n < x_in.size(0); ++n) {
    const Matrix x =
        matrix(length, heads * width, [&](auto t, auto i) { return x_in.at({n, t, i / width, i % width}); });
    const Matrix dt = matrix(length, heads, [&](auto t, auto h) { return dt_in.at({n, t, h}); });
    const auto grouped = [&](const Tensor& tensor) {
      return matrix(length, groups * states, [&](auto t, auto i) { return tensor.at({n, t, i / states, i % states}); });
    };
    const Matrix b = grouped(b_in), c = grouped(c_in);
    const auto state_at = [&](const Tensor& tensor, std::int64_t row, std::int64_t p) {
      return tensor.at({n, row / states, p, row % states});
    };
    Matrix start(heads * states, width);
    if (golden.has("in.state0")) {
      const Tensor before = golden.read("in.state0");
      start = matrix(heads * states, width, [&](auto row, auto p) { return state_at(before, row, p); });
    }
    // Here the gate is not part of the scan.
    const auto gate = [&](std::int64_t t, std::int64_t i) {
      return gated ? reference::silu(z.at({n, t, i / width, i % width})) : 1.0;
    };
    ThreadPool pool(2);
    for (const std::int64_t chunk : {1, 16, 64}) {
      scan.chunk = chunk;
      check({.length = length,
             .columns = heads * width,
             .start = start,
             .parts = segments(golden, n, length),
             .oracle =
                 [&](SequenceRows part, std::span<double> state, Rows<double> out) {
                   const auto cut = [&](const Matrix& m) { return m.in().slice_rows(part.first_row, part.rows); };
                   reference::ssd_scan(scan, cut(x), cut(dt), cut(b), cut(c), state, out);
                   for (std::int64_t t = 0; t < out.rows; ++t) {
                     for (std::int64_t i = 0; i < out.columns; ++i) out.row(t)[i] *= gate(part.first_row + t, i);
                   }
                 },
             .kernel =
                 [&](auto parts, RowsOut out) {
                   ssd_scan(pool, scan, x.in(), dt.in(), b.in(), c.in(), parts, out);
                   for (std::int64_t t = 0; t < out.rows; ++t) {
                     for (std::int64_t i = 0; i < out.columns; ++i) out.row(t)[i] *= static_cast<float>(gate(t, i));
                   }
                 },
             .value = [&](auto t, auto i) { return y.at({n, t, i / width, i % width}); },
             .final_value = [&](auto row, auto p) { return state_at(last, row, p); },
             .largest = y.largest,
             .largest_state = last.largest,
             // 0.05 and 0.2 are rounded to f32 in our parameters, and with them a clamped dt.
             .oracle_tolerance = limited ? 4 * tests::kRounding : kOracleTolerance});
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSsd,
                         ::testing::Values("ssd_L128_G1", "ssd_L128_G2_initial", "ssd_L1_G1", "ssd_L1_G2_initial",
                                           "ssd_L37_G1_z_Dfull", "ssd_L37_G2_dtlimit", "ssd_L37_G2_initial",
                                           "ssd_packed"));

TEST_P(GoldenDelta, OracleAndKernelAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(file_of(path, GetParam()));
  const Tensor q_in = golden.read("in.q"), k_in = golden.read("in.k"), v_in = golden.read("in.v");
  const Tensor g_in = golden.read("in.g"), beta_in = golden.read("in.beta");
  const Tensor y = golden.read("out.y"), last = golden.read("out.final_state");
  const std::int64_t length = q_in.size(1), key_heads = q_in.size(2), keys = q_in.size(3);
  const std::int64_t value_heads = v_in.size(2), values = v_in.size(3);
  const Matrix a = matrix(1, value_heads, [](auto, auto) { return -1.0; });
  const DeltaScan scan = {
      .key_heads = key_heads, .value_heads = value_heads, .key_width = keys, .value_width = values, .a = a.data()};
  const bool normalise = std::string_view(GetParam()).find("nonorm") == std::string_view::npos;
  for (std::int64_t n = 0; n < q_in.size(0); ++n) {
    // Normalising is the model's business; here it is done in double and rounded once.
    const auto normalised = [&](const Tensor& tensor, double scale) {
      return matrix(length, key_heads * keys, [&](auto t, auto i) {
        double squares = 1e-6;
        for (std::int64_t c = 0; c < keys; ++c) squares += std::pow(tensor.at({n, t, i / keys, c}), 2);
        return tensor.at({n, t, i / keys, i % keys}) * scale / (normalise ? std::sqrt(squares) : 1.0);
      });
    };
    const Matrix q = normalised(q_in, 1.0 / std::sqrt(static_cast<double>(keys))), k = normalised(k_in, 1.0);
    const Matrix v =
        matrix(length, value_heads * values, [&](auto t, auto i) { return v_in.at({n, t, i / values, i % values}); });
    const Matrix dt = matrix(length, value_heads, [&](auto t, auto h) { return -g_in.at({n, t, h}); });
    const Matrix beta = matrix(length, value_heads, [&](auto t, auto h) { return beta_in.at({n, t, h}); });
    const auto state_at = [&](const Tensor& tensor, std::int64_t row, std::int64_t c) {
      return tensor.at({n, row / keys, row % keys, c});
    };
    Matrix start(value_heads * keys, values);
    if (golden.has("in.state0")) {
      const Tensor before = golden.read("in.state0");
      start = matrix(value_heads * keys, values, [&](auto row, auto c) { return state_at(before, row, c); });
    }
    const auto inputs = [&](std::int64_t first, std::int64_t rows) {
      const auto cut = [&](const Matrix& m) { return m.in().slice_rows(first, rows); };
      return DeltaScanInputs{.q = cut(q), .k = cut(k), .v = cut(v), .dt = cut(dt), .beta = cut(beta)};
    };
    ThreadPool pool(2);
    check({.length = length,
           .columns = value_heads * values,
           .start = start,
           .parts = segments(golden, n, length),
           .oracle =
               [&](SequenceRows part, std::span<double> state, Rows<double> out) {
                 reference::delta_scan(scan, inputs(part.first_row, part.rows), state, out);
               },
           .kernel = [&](auto parts, RowsOut out) { delta_scan(pool, scan, inputs(0, length), parts, out); },
           .value = [&](auto t, auto i) { return y.at({n, t, i / values, i % values}); },
           .final_value = [&](auto row, auto c) { return state_at(last, row, c); },
           .largest = y.largest,
           .largest_state = last.largest,
           // The normalised q and k are rounded to f32.
           .oracle_tolerance = 8 * tests::kRounding});
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenDelta,
                         ::testing::Values("gdr_L1", "gdr_L16_nonorm", "gdr_L37_initial", "gdr_L64_shared_keys"));

}  // namespace
}  // namespace krait::kernels
