// What was trained says the same in the engine: the exported folder, run by krait/models, against the module.
#include <filesystem>

#include "krait/train/trained_model.h"
#include "tests/support/golden_logits.h"

namespace krait::train {
namespace {

class EveryLayout : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Mixers, EveryLayout, ::testing::Values("mamba", "mamba2", "mamba3", "hax"),
                         [](const auto& of) { return of.param; });

TEST_P(EveryLayout, SaysTheSameInTheEngine) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / ("export_model_test_" + GetParam());
  std::filesystem::remove_all(folder);
  const TrainedModelOptions options{.mixers = {GetParam()},
                                    .vocabulary = 61,
                                    .width = 32,
                                    .layers = 3,
                                    .states = 16,
                                    .head_width = 16,
                                    .padding = 8,
                                    .seed = 7};
  const auto model = make_model(options);
  ASSERT_TRUE(model.has_value()) << model.error().message;
  {
    // Norms and biases that are all alike would hide a tensor in the wrong place.
    const at::NoGradGuard guard;
    for (at::Tensor& parameter : (*model)->parameters()) parameter.add_(at::empty_like(parameter).uniform_(-0.1, 0.1));
  }
  const auto exported = export_model(**model, options, {.end_token = 60}, {}, folder);
  ASSERT_TRUE(exported.has_value()) << exported.error().message;

  std::vector<std::int32_t> tokens;
  for (std::int32_t i = 0; i < 50; ++i) tokens.push_back(i * i % 61);
  const at::NoGradGuard guard;
  const at::Tensor expected = (*model)->logits(tokens, {.segments = {{0, 50}}});
  const auto engine = tests::open_engine(folder);
  EXPECT_EQ(engine->model().info().eos, std::vector<std::int32_t>{60});
  runtime::Session session(*engine);
  const auto actual = tests::all_logits(session, tokens);
  ASSERT_EQ(actual.size(), tokens.size());
  const double largest = expected.abs().max().item<double>();
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    for (std::int64_t v = 0; v < 61; ++v) {
      // Both are f32 by other kernels: as the golden checkpoints', relative to the largest logit.
      ASSERT_NEAR(actual[t][static_cast<std::size_t>(v)], expected[static_cast<std::int64_t>(t)][v].item<float>(),
                  2e-5 * largest)
          << "token " << t << ", logit " << v;
    }
  }
  std::filesystem::remove_all(folder);
}

TEST(ExportModel, SaysThatNoLayoutHasAMixture) {
  const TrainedModelOptions options{
      .mixers = {"mamba", "mamba2"}, .vocabulary = 8, .width = 16, .layers = 2, .head_width = 8};
  const auto model = make_model(options);
  ASSERT_TRUE(model.has_value());
  const auto exported = export_model(**model, options, {}, {}, "/nonexistent");
  ASSERT_FALSE(exported.has_value());
  EXPECT_EQ(exported.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(exported.error().message.find("mamba, mamba2"), std::string::npos);
}

}  // namespace
}  // namespace krait::train
