// What was trained says the same in the engine: the exported folder, run by krait/models, against the module.
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "krait/train/trained_model.h"
#include "tests/support/golden_logits.h"

namespace krait::train {
namespace {

struct LayoutCase {
  std::string name;
  TrainedModelOptions options;
};

std::vector<LayoutCase> layout_cases() {
  std::vector<LayoutCase> cases;
  const auto add = [&](std::string name, std::vector<std::string> mixers) -> TrainedModelOptions& {
    cases.push_back({std::move(name),
                     {.mixers = std::move(mixers),
                      .vocabulary = 61,
                      .width = 32,
                      .layers = 3,
                      .states = 16,
                      .head_width = 16,
                      .padding = 8,
                      .seed = 7}});
    return cases.back().options;
  };
  for (const char* mixer : {"mamba", "mamba2", "mamba3", "hax"}) add(mixer, {mixer});
  add("mamba2_and_attention", {"mamba2", "attention"});
  add("mamba2_and_attention_in_groups", {"attention", "mamba2"}).groups = 2;
  add("attention", {"attention"});
  add("feed_forward", {"mamba2", "attention"}).feed_forward = 40;
  TrainedModelOptions& rotary = add("feed_forward_and_positions", {"attention", "mamba2"});
  rotary.feed_forward = 24;
  rotary.rotary = 16;
  rotary.tied = false;
  add("mamba2_and_feed_forward", {"mamba2"}).feed_forward = 40;
  return cases;
}

class EveryLayout : public ::testing::TestWithParam<LayoutCase> {};
INSTANTIATE_TEST_SUITE_P(Mixers, EveryLayout, ::testing::ValuesIn(layout_cases()),
                         [](const auto& of) { return of.param.name; });

TEST_P(EveryLayout, SaysTheSameInTheEngine) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / ("export_model_test_" + GetParam().name);
  std::filesystem::remove_all(folder);
  const TrainedModelOptions& options = GetParam().options;
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

TEST(ExportModel, SaysWhatNoLayoutHas) {
  const TrainedModelOptions small = {.vocabulary = 8, .width = 16, .layers = 2, .head_width = 8};
  std::vector<std::pair<TrainedModelOptions, std::string>> cases(4, {small, ""});
  cases[0].first.mixers = {"mamba", "mamba2"};
  cases[0].second = "layers of mamba, mamba2";
  cases[1].first.mixers = {"mamba2", "attention"};
  cases[1].first.window = 4;
  cases[1].second = "a window of 4";
  cases[2].first.mixers = {"mamba2", "attention"};
  cases[2].first.rotary = 8;
  cases[2].second = "8 turned entries of a head of 8";
  cases[3].first.mixers = {"mamba"};
  cases[3].first.feed_forward = 24;
  cases[3].second = "feed-forward layers of 24";
  for (const auto& [options, said] : cases) {
    const auto model = make_model(options);
    ASSERT_TRUE(model.has_value()) << model.error().message;
    const auto exported = export_model(**model, options, {}, {}, "/nonexistent");
    ASSERT_FALSE(exported.has_value()) << said;
    EXPECT_EQ(exported.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(exported.error().message.find(said), std::string::npos) << exported.error().message;
  }
}

}  // namespace
}  // namespace krait::train
