// Layers, norms and the scans of Mamba-1 and Mamba-2: gradients are derivatives.
#include "krait/nn/activations.h"
#include "krait/nn/conv1d_causal.h"
#include "krait/nn/linear.h"
#include "krait/nn/norms.h"
#include "krait/nn/scan_selective.h"
#include "krait/nn/scan_ssd.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

using tests::check_gradients;
using tests::covered_rows;
using tests::Inputs;
using tests::Results;

const Segments& kSegments = tests::kPaddedSegments;
constexpr std::int64_t kRows = tests::kPaddedRows;

class NnGradients : public tests::RandomTensors {
 protected:
  std::map<std::string, Tensor> without(std::map<std::string, Tensor> in, std::initializer_list<const char*> names) {
    for (const char* name : names) in.erase(name);
    return in;
  }
};

TEST_F(NnGradients, OfLinearLayers) {
  const auto run = [](const Inputs& in) { return Results{linear(in("x"), in("weight"), in("bias"))}; };
  check_gradients({{{"x", normal({2, 3, 5})}, {"weight", normal({4, 5})}, {"bias", normal({4})}}}, run);
  check_gradients({{{"x", normal({5})}, {"weight", normal({1, 5})}}}, run);
}

TEST_F(NnGradients, OfSplitColumns) {
  check_gradients({{{"x", normal({3, 6})}}}, [](const Inputs& in) {
    const auto parts = split_columns(in("x"), {1, 3, 2});
    return Results{parts[0], parts[1].square(), parts[2]};
  });
}

TEST_F(NnGradients, OfNorms) {
  const auto rms = [](const Inputs& in) { return Results{rms_norm(in("x"), in("weight"), 1e-3)}; };
  check_gradients({{{"x", normal({3, 5})}, {"weight", normal({5})}}}, rms);
  check_gradients({{{"x", normal({1, 2, 7})}}}, rms);
  const auto added = [](const Inputs& in) {
    const AddedNorm result = add_rms_norm(in("residual"), in("delta"), in("weight"), 1e-3);
    return Results{result.sum, result.y};
  };
  check_gradients({{{"residual", normal({3, 5})}, {"delta", normal({3, 5})}, {"weight", normal({5})}}}, added);
  for (const auto order : {kernels::GateOrder::kGateThenNorm, kernels::GateOrder::kNormThenGate}) {
    const auto gated = [&](const Inputs& in) {
      return Results{gated_rms_norm(in("x"), in("gate"), in("weight"), 1e-3, 2, order)};
    };
    check_gradients({{{"x", normal({3, 6})}, {"gate", normal({3, 6})}, {"weight", normal({6})}}}, gated);
  }
}

TEST_F(NnGradients, OfTheGate) {
  check_gradients({{{"x", normal({3, 5})}, {"gate", normal({3, 5})}}},
                  [](const Inputs& in) { return Results{silu_gate(in("x"), in("gate"))}; });
}

TEST_F(NnGradients, OfTheConvolution) {
  const std::map<std::string, Tensor> all = {
      {"x", normal({kRows, 3})}, {"weight", normal({3, 1, 4})}, {"bias", normal({3})}, {"window", normal({3, 3, 3})}};
  for (const bool silu : {false, true}) {
    const auto run = [&](const Inputs& in) {
      const ConvResult result = conv1d_causal(in("x"), in("weight"), in("bias"), kSegments, silu, in("window"));
      return Results{covered_rows(result.y, kSegments), result.window};
    };
    check_gradients(all, run);
    check_gradients(without(all, {"bias", "window"}), run);
  }
}

TEST_F(NnGradients, OfTheSelectiveScan) {
  const std::map<std::string, Tensor> all = {
      {"x", normal({kRows, 4})},     {"dt", normal({kRows, 4})},          {"a", normal({4, 3}, 0.3, -1.0)},
      {"b", normal({kRows, 2 * 3})}, {"c", normal({kRows, 2 * 3})},       {"d", normal({4})},
      {"z", normal({kRows, 4})},     {"dt_bias", normal({4}, 1.0, -1.0)}, {"state", normal({3, 4, 3})}};
  for (const bool softplus : {false, true}) {
    const auto run = [&](const Inputs& in) {
      // Without softplus dt is what it is: keep it positive.
      const ScanResult result = selective_scan({.x = in("x"),
                                                .dt = softplus ? in("dt") : in("dt").square(),
                                                .a = in("a"),
                                                .b = in("b"),
                                                .c = in("c"),
                                                .d = in("d"),
                                                .z = in("z"),
                                                .dt_bias = in("dt_bias"),
                                                .state = in("state"),
                                                .dt_softplus = softplus},
                                               kSegments);
      return Results{covered_rows(result.y, kSegments), result.state};
    };
    if (softplus) check_gradients(all, run);
    check_gradients(without(all, {"d", "z", "dt_bias", "state"}), run);
  }
}

TEST_F(NnGradients, OfTheSsdScan) {
  const std::map<std::string, Tensor> all = {{"x", normal({kRows, 4 * 3})},       {"dt", normal({kRows, 4})},
                                             {"a", normal({4}, 0.3, -1.0)},       {"b", normal({kRows, 2 * 5})},
                                             {"c", normal({kRows, 2 * 5})},       {"d", normal({4})},
                                             {"dt_bias", normal({4}, 1.0, -1.0)}, {"state", normal({3, 4, 3, 5})}};
  const auto run = [&](const Inputs& in) {
    const ScanResult result = ssd_scan({.x = in("x"),
                                        .dt = in("dt"),
                                        .a = in("a"),
                                        .b = in("b"),
                                        .c = in("c"),
                                        .d = in("d"),
                                        .dt_bias = in("dt_bias"),
                                        .state = in("state"),
                                        .groups = 2},
                                       kSegments);
    return Results{covered_rows(result.y, kSegments), result.state};
  };
  check_gradients(all, run);
  std::map<std::string, Tensor> fewer = without(all, {"d", "dt_bias", "state"});
  check_gradients(fewer, run);
  fewer["d"] = normal({4 * 3});  // one of each channel
  check_gradients(fewer, run);
}

}  // namespace
}  // namespace krait::nn
