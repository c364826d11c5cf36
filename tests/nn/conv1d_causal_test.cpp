#include "krait/nn/conv1d_causal.h"

#include "tests/nn/golden_operator.h"

namespace krait::nn {
namespace {

class GoldenConv : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenConv, AgreesWithTheirs) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    tests::GoldenOperator golden(path, GetParam(), type);
    const Tensor x = golden.in("x");  // [B, C, T]
    const Segments segments = golden.segments(x.size(0), x.size(2));
    const bool silu = std::string_view(GetParam()).find("noact") == std::string_view::npos;
    Tensor window;
    if (golden.has("window0")) window = golden.in("window0").transpose(1, 2);
    const ConvResult result =
        conv1d_causal(x.transpose(1, 2), golden.in("weight"), golden.in("bias"), segments, silu, window);
    golden.expect({{"y", result.y.transpose(1, 2)},
                   {"window", golden.last_states(result.window, x.size(0), x.size(2)).transpose(1, 2)}});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenConv,
                         ::testing::Values("conv_L16_K2", "conv_L1_K4_window", "conv_L33_K3_noact_nobias",
                                           "conv_L64_K4_window", "conv_L7_K4", "conv_packed"));

}  // namespace
}  // namespace krait::nn
