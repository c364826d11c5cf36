#include "krait/nn/scan_selective.h"

#include "tests/nn/golden_operator.h"

namespace krait::nn {
namespace {

class GoldenSelective : public ::testing::TestWithParam<const char*> {};

// [B, G, N, T] -> [B, T, G*N]; [E, N], the same at all times and for all sequences -> [B, T, E*N], a group each.
Tensor grouped(const Tensor& of, const Tensor& x) {
  if (of.dim() == 2) return of.reshape({1, 1, -1}).expand({x.size(0), x.size(2), -1});
  return of.permute({0, 3, 1, 2}).flatten(2);
}

TEST_P(GoldenSelective, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor u = golden.in("u");  // [B, E, T]
    const std::int64_t batch = u.size(0), length = u.size(2);
    const auto by_time = [](const Tensor& of) { return of.defined() ? of.transpose(1, 2) : of; };
    const ScanResult result = selective_scan({.x = by_time(u),
                                              .dt = by_time(golden.in("delta")),
                                              .a = golden.in("A"),
                                              .b = grouped(golden.in("B"), u),
                                              .c = grouped(golden.in("C"), u),
                                              .d = golden.in("D"),
                                              .z = by_time(golden.in("z")),
                                              .dt_bias = golden.in("delta_bias"),
                                              .state = golden.in("state0"),
                                              .dt_softplus = !std::string_view(GetParam()).ends_with("plain")},
                                             golden.segments(batch, length));
    golden.expect({{"y", by_time(result.y)}, {"last_state", golden.last_states(result.state, batch, length)}});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenSelective,
                         ::testing::Values("sel_L129_N16_G2_full", "sel_L129_N8_z_noD", "sel_L1_N16_full",
                                           "sel_L64_N16_constBC", "sel_L64_N16_initial", "sel_L64_N16_plain",
                                           "sel_L64_N8_noz", "sel_L7_N16_G2_full", "sel_L7_N8_initial", "sel_packed"));

// Two scans over the same inputs, one from the end to the beginning, added and gated.
TEST(SelectiveScan, BothDirectionsAgreeWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, "sel_bidirectional", type);
    const Tensor u = golden.in("u");
    const Segments segments = golden.segments(u.size(0), u.size(2));
    Tensor y;
    for (const bool backward : {false, true}) {
      const std::string suffix = backward ? ".bwd" : ".fwd";
      const auto by_time = [&](const Tensor& of) {
        return backward ? of.flip({2}).transpose(1, 2) : of.transpose(1, 2);
      };
      const auto named = [&](const char* name) { return golden.in(name + suffix); };
      const auto rows = [&](const char* name) {
        const Tensor forward = grouped(named(name), u);
        return backward ? forward.flip({1}) : forward;
      };
      const Tensor one = selective_scan({.x = by_time(u),
                                         .dt = by_time(named("delta")),
                                         .a = named("A"),
                                         .b = rows("B"),
                                         .c = rows("C"),
                                         .d = named("D"),
                                         .z = by_time(golden.in("z")),
                                         .dt_bias = named("delta_bias")},
                                        segments)
                             .y;
      y = backward ? y + one.flip({1}) : one;
    }
    golden.expect({{"y", y.transpose(1, 2)}});
  }
}

}  // namespace
}  // namespace krait::nn
