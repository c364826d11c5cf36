// Models against numbers that krait did not make: logits at every position, fed whole, in chunks and token by token.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "krait/kernels/distribution.h"
#include "tests/support/golden_logits.h"
#include "tests/support/shared_data.h"

namespace krait::tests {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::int64_t, 4> kChunks = {512, 1, 3, 7};

void expect_golden(const fs::path& folder, const fs::path& model, double tolerance) {
  const GoldenLogits golden = read_golden(folder);
  ASSERT_FALSE(golden.sequences.empty());
  models::LoadOptions load;
  load.weights = kernels::PanelFormat::kF32;
  for (const std::int64_t chunk : kChunks) {
    const auto engine = open_engine(model, load, {.threads = 2, .prefill_chunk = chunk});
    for (std::size_t s = 0; s < golden.sequences.size(); ++s) {
      runtime::Session session(*engine);
      EXPECT_LE(relative_error(all_logits(session, golden.sequences[s]), golden.logits[s]), tolerance)
          << model << ", sequence " << s << ", chunks of " << chunk;
    }
  }
}

void expect_greedy(const fs::path& folder) {
  const GoldenLogits golden = read_golden(folder);
  if (golden.greedy_from_first.empty()) return;
  models::LoadOptions load;
  load.weights = kernels::PanelFormat::kF32;
  const auto engine = open_engine(folder, load);
  runtime::Session session(*engine);
  session.feed(golden.sequences.front());
  std::vector<std::int32_t> continuation;
  while (continuation.size() < golden.greedy_from_first.size()) {
    continuation.push_back(static_cast<std::int32_t>(kernels::argmax(session.logits())));
    session.feed({&continuation.back(), 1});
  }
  EXPECT_EQ(continuation, golden.greedy_from_first) << folder;
}

using tests::kF32Tolerance;

class ShippedGolden : public testing::TestWithParam<const char*> {};
TEST_P(ShippedGolden, LogitsAndGreedyContinuationMatch) {
  const fs::path folder = fs::path(KRAIT_SOURCE_DIR) / "tests/golden" / GetParam();
  expect_golden(folder, folder, kF32Tolerance);
  expect_greedy(folder);
}
INSTANTIATE_TEST_SUITE_P(Models, ShippedGolden,
                         testing::Values("mamba_tied", "falcon_mamba", "mamba2_g2", "mamba2_original_g2_mlp",
                                         "mamba3_siso_rope1", "mamba3_mimo", "rwkv7", "bamba", "granite_hybrid",
                                         "granite_hybrid_rope", "falcon_h1", "falcon_h1_norm", "zamba2",
                                         "zamba2_adapters", "phi4flash", "samba", "lfm2", "qwen3_next", "hax_mamba",
                                         "hax_mamba2", "hybrid_qwen3_bmojo", "hybrid_qwen3_eidetic"));

class SharedGolden : public testing::TestWithParam<const char*> {};
TEST_P(SharedGolden, LogitsAndGreedyContinuationMatch) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const fs::path folder = shared / "golden/lm" / GetParam();
  expect_golden(folder, folder, kF32Tolerance);
  expect_greedy(folder);
}
INSTANTIATE_TEST_SUITE_P(Models, SharedGolden,
                         testing::Values("ours/falcon_mamba", "ours/mamba_tied", "ours/mamba_untied", "ours/mamba2_g1",
                                         "ours/mamba2_g2", "ours/mamba2_n128", "outside/mamba", "outside/falcon_mamba",
                                         "outside/mamba2", "outside/mamba1_original", "outside/mamba2_original",
                                         "outside/mamba2_original_g2_mlp", "outside/mamba3_siso",
                                         "outside/mamba3_siso_rope1", "outside/mamba3_siso_outnorm",
                                         "outside/mamba3_mimo", "ours/jamba", "outside/jamba", "ours/nemotron_h",
                                         "ours/nemotron_h_moe", "outside/nemotronh", "outside/nemotronh_moe",
                                         "ours/qwen3_5", "outside/qwen3_5", "outside/qwen3_5_moe"));

// llama.cpp's logits. Where weights are in blocks or 16 bits it rounds activations as well, and so does krait; what
// is left is one rounding step here and there of an activation that falls on a border.
struct GgufCase {
  const char* name;
  double tolerance;
};
void PrintTo(const GgufCase& gguf, std::ostream* out) { *out << gguf.name; }
class GgufGolden : public testing::TestWithParam<GgufCase> {};
TEST_P(GgufGolden, LogitsMatch) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const fs::path folder = shared / "golden/gguf" / GetParam().name;
  expect_golden(folder, folder / "model.gguf", GetParam().tolerance);
}
INSTANTIATE_TEST_SUITE_P(Models, GgufGolden,
                         testing::Values(GgufCase{"mamba", 1e-4}, GgufCase{"mamba2", 1e-4},
                                         GgufCase{"mamba2-bf16", 2e-3}, GgufCase{"mamba2-q8_0", 2e-2},
                                         GgufCase{"mamba2-q6_k", 3e-2}, GgufCase{"mamba2-q5_k", 6e-2},
                                         GgufCase{"mamba2-q4_k", 6e-2}, GgufCase{"mamba2-q4_0", 6e-2},
                                         GgufCase{"falcon-h1", 1e-4}, GgufCase{"granitehybrid", 1e-4},
                                         GgufCase{"jamba", 1e-4}, GgufCase{"lfm2", 1e-4}, GgufCase{"nemotron-h", 1e-4},
                                         GgufCase{"qwen3next", 1e-4}));

TEST(GgufActivations, ActivationsRoundedAsTheFormatSaysComeCloserThanExactOnes) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  for (const char* name : {"mamba2-q8_0", "mamba2-q4_0", "mamba2-q4_k", "mamba2-q5_k", "mamba2-q6_k", "mamba2-bf16"}) {
    const fs::path folder = shared / "golden/gguf" / name;
    const GoldenLogits golden = read_golden(folder);
    models::LoadOptions load;
    std::array<double, 2> errors{};
    for (const bool exact : {false, true}) {
      load.exact_activations = exact;
      const auto engine = open_engine(folder / "model.gguf", load);
      runtime::Session session(*engine);
      errors[exact ? 1 : 0] = relative_error(all_logits(session, golden.sequences[0]), golden.logits[0]);
    }
    EXPECT_LT(errors[0] * 3, errors[1]) << name;
  }
}

// A transformers checkpoint under the names and with the params.json that Mistral gave Codestral-Mamba.
class MistralNames final : public formats::WeightSource {
 public:
  explicit MistralNames(std::unique_ptr<formats::WeightSource> source)
      : source_(std::move(source)),
        config_(*formats::Config::parse_json(R"({"dim": 64, "n_layers": 3, "vocab_size": 101, "n_groups": 1,
                                                 "tie_embeddings": true, "model_type": "mamba"})",
                                             "params.json")) {
    for (formats::TensorInfo info : source_->tensors()) {
      const std::string original = info.name;
      info.name = "model." + original;
      if (const auto at = info.name.find("embeddings"); at != std::string::npos) info.name.erase(at + 9, 1);
      originals_[info.name] = original;
      tensors_.push_back(std::move(info));
    }
    std::ranges::sort(tensors_, {}, &formats::TensorInfo::name);
  }
  std::string_view format() const override { return source_->format(); }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "consolidated.safetensors"; }
  Result<TensorView> view(std::string_view name) const override {
    const auto found = originals_.find(name);
    return source_->view(found == originals_.end() ? name : std::string_view(found->second));
  }

 private:
  std::unique_ptr<formats::WeightSource> source_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
  std::map<std::string, std::string, std::less<>> originals_;
};

TEST(MistralGolden, TheirLayoutOfMamba2IsTheSameModel) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const fs::path folder = shared / "golden/lm/ours/mamba2_n128";
  auto source = formats::open_weights(folder);
  ASSERT_TRUE(source) << source.error().message;
  auto model = models::load_model(std::make_shared<MistralNames>(*std::move(source)));
  ASSERT_TRUE(model) << model.error().message;
  runtime::Engine engine(*std::move(model), {.threads = 2});
  const GoldenLogits golden = read_golden(folder);
  runtime::Session session(engine);
  EXPECT_LE(relative_error(all_logits(session, golden.sequences[0]), golden.logits[0]), kF32Tolerance);
}

TEST(TrainedModel, GreedyContinuationsMatchTheRecordedOnes) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const fs::path folder = shared / "models/tales-starter";
  std::ifstream stream(folder / "expected.json");
  const auto expected = nlohmann::json::parse(stream);
  for (const char* dtype : {"f32", "bf16"}) {
    models::LoadOptions load;
    load.weights = kernels::parse_panel_format(dtype);
    const auto engine = open_engine(folder, load);
    for (const auto& greedy : expected["greedy"]) {
      const auto wanted = greedy["greedy_ids"].get<std::vector<std::int32_t>>();
      runtime::Session session(*engine);
      session.feed(greedy["prompt_ids"].get<std::vector<std::int32_t>>());
      std::vector<std::int32_t> got;
      while (got.size() < wanted.size()) {
        got.push_back(static_cast<std::int32_t>(kernels::argmax(session.logits())));
        session.feed({&got.back(), 1});
      }
      EXPECT_EQ(got, wanted) << dtype;
    }
  }
}

}  // namespace
}  // namespace krait::tests
