#include "krait/kernels/scan_delta_backward.h"

#include "krait/kernels/reference/scan_delta_backward.h"
#include "krait/kernels/saved_chunks.h"
#include "tests/kernels/golden_case.h"
#include "tests/kernels/gradient_testing.h"
#include "tests/support/shared_data.h"

namespace krait::kernels {
namespace {

using tests::Doubles;
using tests::expect_within;
using tests::Golden;
using tests::kRounding;
using tests::Matrix;
using tests::Tensor;

// Inputs, what is asked of the outputs, and the gradients, in double.
struct Case {
  Doubles q, k, v, dt, beta, a, d_o;
  std::vector<std::int64_t> lengths;      // sequences, one after the other
  std::vector<Doubles> initial, d_final;  // of each [Hv*Dk, Dv]
  DeltaScanOf<double> scan;
  Doubles o, dq, dk, dv, d_dt, d_beta, da;  // what comes out
  std::vector<Doubles> last, d_initial;

  Case(std::vector<std::int64_t> sequences, std::int64_t key_heads, std::int64_t value_heads, std::int64_t keys,
       std::int64_t values, Random& random)
      : lengths(std::move(sequences)) {
    std::int64_t rows = 0;
    for (const std::int64_t length : lengths) rows += length;
    const auto normal = [&](std::int64_t r, std::int64_t c, double scale) {
      Doubles result(r, c);
      // Numbers that f32 holds, so that both precisions start from the same.
      result.fill([&](auto, auto) { return static_cast<double>(static_cast<float>(scale * random.normal())); });
      return result;
    };
    q = normal(rows, key_heads * keys, 1.0);
    // About as long as normalised ones.
    k = normal(rows, key_heads * keys, 1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, keys))));
    v = normal(rows, value_heads * values, 1.0);
    d_o = normal(rows, value_heads * values, 1.0);
    dt = normal(rows, value_heads, 1.0);
    beta = normal(rows, value_heads, 1.0);
    a = normal(1, value_heads, 1.0);
    for (double& value : dt.values()) value = static_cast<float>(0.02 + 0.2 * value * value);
    for (double& value : beta.values()) value = static_cast<float>(1.0 / (1.0 + std::exp(value)));
    for (double& value : a.values()) value = static_cast<float>(-0.3 - std::fabs(value));
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      initial.push_back(normal(value_heads * keys, values, 1.0));
      d_final.push_back(normal(value_heads * keys, values, 1.0));
    }
    scan = {.key_heads = key_heads, .value_heads = value_heads, .key_width = keys, .value_width = values, .chunk = 8};
  }

  DeltaScanOf<double> with_a() const {
    DeltaScanOf<double> result = scan;
    result.a = a.data();
    return result;
  }

  // The sum that gradients are of.
  double loss() {
    o = Doubles(d_o.rows(), d_o.columns());
    last = initial;
    double sum = 0.0;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto cut = [&](const Doubles& m) { return m.in().slice_rows(row, lengths[i]); };
      reference::delta_scan(with_a(), {.q = cut(q), .k = cut(k), .v = cut(v), .dt = cut(dt), .beta = cut(beta)},
                            std::span<double>(last[i].values()), o.out().slice_rows(row, lengths[i]));
      for (std::size_t j = 0; j < last[i].values().size(); ++j) sum += d_final[i].values()[j] * last[i].values()[j];
      row += lengths[i];
    }
    for (std::size_t j = 0; j < o.values().size(); ++j) sum += d_o.values()[j] * o.values()[j];
    return sum;
  }

  void backward() {
    const auto like = [](const Doubles& m) { return Doubles(m.rows(), m.columns()); };
    dq = like(q), dk = like(k), dv = like(v), d_dt = like(dt), d_beta = like(beta), da = like(a);
    d_initial.clear();
    std::int64_t row = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      d_initial.push_back(like(initial[i]));
      reference::delta_scan_backward(
          with_a(), {.q = q.in(), .k = k.in(), .v = v.in(), .dt = dt.in(), .beta = beta.in()}, initial[i].data(),
          d_o.in(),
          {.first_row = row,
           .rows = lengths[i],
           .final_gradient = d_final[i].data(),
           .initial_gradient = d_initial[i].data()},
          {.q = dq.out(), .k = dk.out(), .v = dv.out(), .dt = d_dt.out(), .beta = d_beta.out(), .a = da.data()});
      row += lengths[i];
    }
  }
};

TEST(ScanDeltaBackward, ReferenceIsTheDerivativeOfTheReference) {
  Random random(1);
  for (const std::int64_t key_heads : {1, 2}) {
    Case c({5, 0, 3, 1}, key_heads, 2, 3, 4, random);
    c.backward();
    const auto loss = [&] { return c.loss(); };
    const auto check = [&](const char* what, Doubles& value, const Doubles& gradient) {
      tests::expect_derivatives(what, value.data(), value.rows() * value.columns(), gradient.data(), loss);
    };
    check("q", c.q, c.dq);
    check("k", c.k, c.dk);
    check("v", c.v, c.dv);
    check("dt", c.dt, c.d_dt);
    check("beta", c.beta, c.d_beta);
    check("a", c.a, c.da);
    for (std::size_t i = 0; i < c.lengths.size(); ++i) check("state", c.initial[i], c.d_initial[i]);
  }
}

// [B, T, H, …] of one batch entry as rows.
Doubles rows_of(const Tensor& tensor, std::int64_t batch) {
  const std::int64_t length = tensor.size(1),
                     columns = static_cast<std::int64_t>(tensor.values.size()) / tensor.size(0) / length;
  Doubles result(length, columns);
  result.fill(
      [&](auto t, auto c) { return tensor.values[static_cast<std::size_t>((batch * length + t) * columns + c)]; });
  return result;
}

// x / sqrt(sum x^2 + 1e-6) by heads of `width`, times scale; and back.
constexpr double kNormEpsilon = 1e-6;
double inverse_norm(const Doubles& x, std::int64_t t, std::int64_t from, std::int64_t width) {
  double squares = kNormEpsilon;
  for (std::int64_t i = from; i < from + width; ++i) squares += x.at(t, i) * x.at(t, i);
  return 1.0 / std::sqrt(squares);
}
Doubles normalised(const Doubles& x, std::int64_t width, bool norm, double scale) {
  Doubles y(x.rows(), x.columns());
  y.fill(
      [&](auto t, auto i) { return scale * x.at(t, i) * (norm ? inverse_norm(x, t, i / width * width, width) : 1.0); });
  return y;
}
Doubles normalised_backward(const Doubles& x, const Doubles& dy, std::int64_t width, bool norm, double scale) {
  Doubles dx(x.rows(), x.columns());
  dx.fill([&](auto t, auto i) {
    if (!norm) return scale * dy.at(t, i);
    const std::int64_t from = i / width * width;
    const double factor = inverse_norm(x, t, from, width);
    double along = 0.0;
    for (std::int64_t j = from; j < from + width; ++j) along += dy.at(t, j) * x.at(t, j);
    return scale * factor * (dy.at(t, i) - x.at(t, i) * along * factor * factor);
  });
  return dx;
}

class GoldenDeltaBackward : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenDeltaBackward, GradientsAgree) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const Golden golden(path, GetParam());
  const bool norm = std::string_view(GetParam()) != "gdr_L16_nonorm";
  const Tensor q = golden.read("in.q"), v = golden.read("in.v"), g = golden.read("in.g");
  const std::int64_t keys = q.size(3), values = v.size(3), heads = v.size(2), length = q.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(keys));
  for (std::int64_t n = 0; n < q.size(0); ++n) {
    const auto rows = [&](const std::string& name) { return rows_of(golden.read(name), n); };
    const auto state = [&](const std::string& name) {
      Doubles result(heads * keys, values);
      if (!golden.has(name)) return result;
      const Tensor tensor = golden.read(name);
      result.fill([&](auto r, auto p) { return tensor.at({n, r / keys, r % keys, p}); });
      return result;
    };
    Random random(1);
    Case c({length}, q.size(2), heads, keys, values, random);
    const Doubles raw_q = rows("in.q"), raw_k = rows("in.k");
    c.q = normalised(raw_q, keys, norm, scale);
    c.k = normalised(raw_k, keys, norm, 1.0);
    c.v = rows("in.v");
    c.dt = rows("in.g");
    c.beta = rows("in.beta");
    c.a.fill([](auto, auto) { return 1.0; });  // g itself is the exponent
    c.d_o = rows("up.y");
    c.initial[0] = state("in.state0");
    c.d_final[0] = state("up.final_state");
    const auto check = [&](double tolerance) {
      // Relative to the whole tensor, all batch entries of it.
      const auto compare = [&](const std::string& name, const Doubles& actual, const Doubles& expected) {
        const double whole = golden.read(name).largest;
        expect_within(actual, expected, tolerance * whole / std::max(expected.largest(), 1e-300), name);
      };
      compare("grad.q", normalised_backward(raw_q, c.dq, keys, norm, scale), rows("grad.q"));
      compare("grad.k", normalised_backward(raw_k, c.dk, keys, norm, 1.0), rows("grad.k"));
      compare("grad.v", c.dv, rows("grad.v"));
      compare("grad.g", c.d_dt, rows("grad.g"));
      compare("grad.beta", c.d_beta, rows("grad.beta"));
      if (golden.has("grad.state0")) compare("grad.state0", c.d_initial[0], state("grad.state0"));
    };
    c.loss();
    expect_within(c.o, rows("out.y"), 1e-9, "y");
    c.backward();
    check(1e-9);
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenDeltaBackward,
                         ::testing::Values("gdr_L1", "gdr_L16_nonorm", "gdr_L37_initial", "gdr_L64_shared_keys"));

}  // namespace
}  // namespace krait::kernels
