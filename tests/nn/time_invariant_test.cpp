// Long convolutions, the kernels of S4 and S4D that feed them, and the diagonal scan.
#include "krait/nn/long_convolution.h"
#include "krait/nn/s4_kernel.h"
#include "krait/nn/s4d_kernel.h"
#include "krait/nn/scan_diagonal.h"
#include "tests/nn/gradient_check.h"

namespace krait::nn {
namespace {

using tests::check_gradients;
using tests::covered_rows;
using tests::Inputs;
using tests::Results;

const Segments& kSegments = tests::kPaddedSegments;
constexpr std::int64_t kRows = tests::kPaddedRows;

class NnTimeInvariant : public tests::RandomTensors {};

TEST_F(NnTimeInvariant, GradientsOfTheLongConvolution) {
  std::map<std::string, Tensor> in = {
      {"x", normal({kRows, 3})}, {"kernel", normal({3, 4})}, {"ahead", normal({3, 7})}, {"d", normal({3})}};
  for (const std::int64_t first_ahead : {0, 1}) {
    const auto run = [&](const Inputs& inputs) {
      return Results{covered_rows(long_convolution({.x = inputs("x"),
                                                    .kernel = inputs("kernel"),
                                                    .ahead = inputs("ahead"),
                                                    .d = inputs("d"),
                                                    .first_ahead = first_ahead},
                                                   kSegments),
                                  kSegments)};
    };
    check_gradients(in, run);
    if (first_ahead == 1) {
      in.erase("ahead");
      in.erase("d");
      check_gradients(in, run);
    }
  }
}

// One kernel of S4D in a long convolution: the whole layer.
TEST_F(NnTimeInvariant, GradientsOfS4d) {
  for (const bool per_state : {false, true}) {
    for (const auto method : {kernels::Discretisation::kZeroOrderHold, kernels::Discretisation::kBilinear}) {
      const Tensor x = normal({kRows, 4});
      std::map<std::string, Tensor> in = {{"log_dt", per_state ? normal({4, 3}, 0.3, -1.0) : normal({4}, 0.3, -1.0)},
                                          {"log_decay", normal({2, 3}, 0.3)},
                                          {"frequency", normal({2, 3})},
                                          {"b", normal({2, 3, 2})},
                                          {"c", normal({1, 4, 3, 2})}};
      if (per_state) in.erase("b");
      check_gradients(in, [&](const Inputs& inputs) {
        const Tensor kernel = s4d_kernel({.log_dt = inputs("log_dt"),
                                          .log_decay = inputs("log_decay"),
                                          .frequency = inputs("frequency"),
                                          .b = inputs("b"),
                                          .c = inputs("c"),
                                          .method = method,
                                          .rate = 1.5},
                                         6);
        return Results{
            kernel,
            covered_rows(long_convolution({.x = x.to(kernel.scalar_type()), .kernel = kernel}, kSegments), kSegments)};
      });
    }
  }
}

TEST_F(NnTimeInvariant, GradientsOfS4) {
  for (const std::int64_t rank : {0, 1, 2}) {
    SCOPED_TRACE(fmt::format("rank {}", rank));
    std::map<std::string, Tensor> in = {{"log_dt", normal({2}, 0.3, -1.0)}, {"log_decay", normal({1, 3}, 0.3)},
                                        {"frequency", normal({1, 3})},      {"p", normal({rank, 1, 3, 2}, 0.5)},
                                        {"b", normal({1, 3, 2})},           {"c", normal({2, 2, 3, 2})}};
    check_gradients(in, [&](const Inputs& inputs) {
      return Results{s4_kernel({.log_dt = inputs("log_dt"),
                                .log_decay = inputs("log_decay"),
                                .frequency = inputs("frequency"),
                                .p = inputs("p"),
                                .b = inputs("b"),
                                .c = inputs("c")},
                               7)};
    });
  }
}

TEST_F(NnTimeInvariant, GradientsOfTheDiagonalScan) {
  for (const bool of_rows : {false, true}) {
    for (const bool with_state : {false, true}) {
      std::map<std::string, Tensor> in = {{"u", normal({kRows, 6})},
                                          {"a", of_rows ? normal({kRows, 6}, 0.5) : normal({6}, 0.5)}};
      if (with_state) in["state"] = normal({3, 6});
      check_gradients(in, [](const Inputs& inputs) {
        const DiagonalScanResult result = diagonal_scan(inputs("u"), inputs("a"), kSegments, inputs("state"));
        return Results{covered_rows(result.h, kSegments), result.state};
      });
    }
  }
}

TEST_F(NnTimeInvariant, SaysWhatDoesNotFit) {
  const Tensor x = normal({4, 3});
  EXPECT_THROW(long_convolution({.x = x, .kernel = normal({2, 5})}, {{0, 4}}), UserError);
  EXPECT_THROW(long_convolution({.x = x}, {{0, 4}}), UserError);
  EXPECT_THROW(long_convolution({.x = x, .kernel = normal({3, 5})}, {{0, 5}}), UserError);
  EXPECT_THROW(diagonal_scan(x, x, {{0, 4}}), UserError);
  EXPECT_THROW(diagonal_scan(normal({4, 6}), normal({4}), {{0, 4}}), UserError);
  EXPECT_THROW(s4_kernel({.c = normal({1, 2, 3})}, 4), UserError);
  EXPECT_THROW(s4d_kernel({.c = normal({1, 2, 3, 2})}, 4), UserError);
}

}  // namespace
}  // namespace krait::nn
