#include "krait/nn/scan_delta.h"

#include "tests/nn/golden_operator.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

class GoldenDelta : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenDelta, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor q = golden.in("q"), k = golden.in("k"), v = golden.in("v");  // [B, T, heads, width]
    const std::int64_t heads = q.size(2), value_heads = v.size(2);
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    Tensor queries = q.flatten(2), keys = k.flatten(2);
    if (std::string_view(GetParam()).ends_with("nonorm")) {
      queries = queries * scale;
    } else {
      queries = normalised_heads(queries, heads, 1e-6, scale);
      keys = normalised_heads(keys, heads, 1e-6);
    }
    // Theirs is the exponent itself.
    const ScanResult result = delta_scan({.q = queries,
                                          .k = keys,
                                          .v = v.flatten(2),
                                          .dt = -golden.in("g"),
                                          .beta = golden.in("beta"),
                                          .a = at::full({value_heads}, -1.0, v.options().requires_grad(false)),
                                          .state = golden.in("state0"),
                                          .key_heads = heads},
                                         golden.segments(v.size(0), v.size(1)));
    golden.expect({{"y", result.y.reshape(v.sizes())}, {"final_state", result.state}});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenDelta,
                         ::testing::Values("gdr_L1", "gdr_L16_nonorm", "gdr_L37_initial", "gdr_L64_shared_keys"));

TEST(DeltaScan, GradientsAreDerivatives) {
  Random random(1);
  const std::int64_t rows = 9;
  // Row 5 is padding; the second segment has no rows.
  const Segments segments = {{0, 5}, {5, 0}, {6, 3}};
  const auto normal = [&](at::IntArrayRef shape, double scale) { return tests::normal_tensor(shape, random, scale); };
  std::map<std::string, Tensor> inputs = {{"q", normal({rows, 2 * 3}, 1.0)},   {"k", normal({rows, 2 * 3}, 0.5)},
                                          {"v", normal({rows, 4 * 2}, 1.0)},   {"dt", normal({rows, 4}, 0.3)},
                                          {"beta", normal({rows, 4}, 0.5)},    {"a", normal({4}, 1.0)},
                                          {"state", normal({3, 4, 3, 2}, 1.0)}};
  const auto run = [&](const tests::Inputs& in) {
    const ScanResult result = delta_scan({.q = in("q"),
                                          .k = in("k"),
                                          .v = in("v"),
                                          .dt = in("dt"),
                                          .beta = in("beta"),
                                          .a = in("a"),
                                          .state = in("state"),
                                          .key_heads = 2},
                                         segments);
    return tests::Results{tests::covered_rows(result.y, segments), result.state};
  };
  tests::check_gradients(inputs, run);
  inputs.erase("state");
  tests::check_gradients(inputs, run);
}

TEST(DeltaScan, NormalisedHeadsHaveTheirLength) {
  Random random(2);
  const Tensor x = tests::normal_tensor({3, 2 * 5}, random);
  const Tensor lengths = normalised_heads(x, 2, 0.0, 0.5).reshape({3, 2, 5}).square().sum(-1);
  EXPECT_LE(tests::largest_of(lengths - 0.25), 1e-14);
  tests::check_gradients(
      {{{"x", x}}}, [](const tests::Inputs& in) { return tests::Results{normalised_heads(in("x"), 2, 1e-3, 0.5)}; });
}

TEST(DeltaScan, SaysWhatDoesNotFit) {
  const Tensor rows = at::zeros({2, 6}), heads = at::zeros({2, 2});
  DeltaScanInputs in{.q = rows, .k = rows, .v = rows, .dt = heads, .beta = heads, .a = at::zeros({2}), .key_heads = 2};
  EXPECT_NO_THROW(delta_scan(in, {{0, 2}}));
  EXPECT_THROW(delta_scan(in, {{0, 3}}), UserError);
  in.key_heads = 4;
  EXPECT_THROW(delta_scan(in, {{0, 2}}), UserError);
  in.key_heads = 2;
  in.beta = at::zeros({2, 1});
  EXPECT_THROW(delta_scan(in, {{0, 2}}), UserError);
}

}  // namespace
}  // namespace krait::nn
