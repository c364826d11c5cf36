// Checkpoints written as GGUF: the same model as before, under the names and keys that llama.cpp's own files have.
#include "krait/models/gguf_checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "krait/formats/gguf_writer.h"
#include "krait/models/synthetic.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/golden_logits.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {
namespace {

using formats::WeightSource;
using Source = std::shared_ptr<const WeightSource>;

constexpr models::SyntheticShape kShapes[] = {{"mamba", "mamba", 2, 32, 41, 8},
                                              {"mamba2", "mamba2", 3, 32, 43, 16, 16},
                                              {"mamba2 of two groups", "mamba2", 2, 32, 47, 8, 8, 2}};

// The source after a way through a file.
Source through_a_file(const Source& source, const TemporaryFolder& folder) {
  const auto gguf = models::as_gguf(source);
  if (!gguf) throw std::runtime_error(gguf.error().message);
  if (auto done = formats::write_gguf(folder.path() / "m.gguf", **gguf); !done) {
    throw std::runtime_error(done.error().message);
  }
  return std::move(formats::open_weights(folder.path() / "m.gguf")).value();
}

// The same numbers reach the same code, so not a bit may differ.
TEST(GgufCheckpoint, AWrittenModelHasTheLogitsOfItsSource) {
  const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9};
  for (const auto& shape : kShapes) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const TemporaryFolder folder;
      const Source source = models::make_synthetic(shape, dtype, /*seed=*/7);
      const Source file = through_a_file(source, folder);
      EXPECT_EQ(file->format(), "gguf");
      EXPECT_EQ(file->find("blk.0.ssm_in.weight")->dtype, dtype);
      EXPECT_EQ(logits_of(file, ids), logits_of(source, ids)) << shape.name << " " << to_string(dtype);
    }
  }
}

// Foldings and rearrangements change no more than a rounding each.
TEST(GgufCheckpoint, EveryHybridIsTheSameModelAsGguf) {
  const std::vector<std::int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6};
  int written = 0;
  for (const models::SyntheticShape& shape : kTinyModels) {
    // llama.cpp has no zamba2, phi4flash, samba, HAX or hybrid_qwen3, and rearranges the heads of Qwen3.5.
    const std::string_view none[] = {"qwen3_5",   "zamba2",     "phi4flash",   "samba",
                                     "hax_mamba", "hax_mamba2", "hybrid_qwen3"};
    if (shape.config.empty() || std::ranges::find(none, shape.architecture) != std::end(none)) continue;
    const TemporaryFolder folder;
    const Source source = models::make_synthetic(shape, DType::kF32, /*seed=*/7);
    const Source file = through_a_file(source, folder);
    EXPECT_LE(relative_error(logits_of(file, ids), logits_of(source, ids)), 2e-6) << shape.name;
    ++written;
  }
  EXPECT_EQ(written, 7);
}

// With transformers' own configurations, tied and untied, and logits that krait did not make.
TEST(GgufCheckpoint, AWrittenModelMeetsTheGoldenLogitsOfItsSource) {
  for (const char* name : {"mamba_tied", "mamba2_g2", "bamba", "granite_hybrid", "granite_hybrid_rope", "falcon_h1",
                           "falcon_h1_norm", "lfm2"}) {
    const std::filesystem::path golden_folder = std::filesystem::path(KRAIT_SOURCE_DIR) / "tests/golden" / name;
    const TemporaryFolder folder;
    KRAIT_ASSERT_VALUE(Source source, formats::open_weights(golden_folder));
    const Source file = through_a_file(source, folder);
    const GoldenLogits golden = read_golden(golden_folder);
    for (std::size_t s = 0; s < golden.sequences.size(); ++s) {
      // As in golden_logits_test.cpp: f32 against references of 6 to 7 digits.
      EXPECT_LE(relative_error(logits_of(file, golden.sequences[s]), golden.logits[s]), 2e-5) << name;
    }
  }
}

// llama.cpp takes a key of another type, or a tensor of another shape, for a broken file.
TEST(GgufCheckpoint, NamesKeysAndTensorsAsLlamaCppDoes) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  for (const auto& shape : {kShapes[0], kShapes[2]}) {
    const std::string architecture(shape.architecture);
    KRAIT_ASSERT_VALUE(const auto theirs, formats::open_weights(shared / "golden/gguf" / architecture / "model.gguf"));
    KRAIT_ASSERT_VALUE(const Source ours, models::as_gguf(models::make_synthetic(shape, DType::kF32, 1)));
    std::size_t keys = 0;
    for (const auto& [key, value] : ours->config().values()) {
      if (!key.starts_with(architecture + ".")) continue;
      const auto* found = theirs->config().find(key);
      ASSERT_NE(found, nullptr) << key;
      EXPECT_EQ(found->index(), value.index()) << key;
      ++keys;
    }
    EXPECT_GE(keys, 12U);
    for (const auto& tensor : ours->tensors()) {
      const auto* found = theirs->find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->shape.size(), tensor.shape.size()) << tensor.name;
    }
    for (const auto& tensor : theirs->tensors()) {
      const bool scale = tensor.name.ends_with("scale");  // llama.cpp's saver adds factors of 1
      if (!scale && tensor.name != "output.weight") {
        EXPECT_NE(ours->find(tensor.name), nullptr) << tensor.name;
      }
    }
  }
}

// A good checkpoint with parts renamed, dropped or said otherwise.
class ChangedSource final : public WeightSource {
 public:
  explicit ChangedSource(const models::SyntheticShape& shape)
      : good_(models::make_synthetic(shape, DType::kF32, 1)), config_(good_->config()) {
    for (const auto& tensor : good_->tensors()) originals_[tensor.name] = tensor.name;
    update();
  }
  void set(const std::string& key, formats::Config::Value value) { config_.set(key, std::move(value)); }
  void drop(const std::string& name) {
    originals_.erase(name);
    update();
  }
  void add(const std::string& name, const std::string& like) {
    originals_[name] = like;
    update();
  }

  std::string_view format() const override { return "changed"; }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return "changed.safetensors"; }
  Result<TensorView> view(std::string_view name) const override {
    const auto found = originals_.find(name);
    return good_->view(found == originals_.end() ? name : std::string_view(found->second));
  }

 private:
  void update() {
    tensors_.clear();
    for (const auto& [name, original] : originals_) {
      tensors_.push_back(*good_->find(original));
      tensors_.back().name = name;
    }
  }

  std::unique_ptr<WeightSource> good_;
  formats::Config config_;
  std::map<std::string, std::string, std::less<>> originals_;
  std::vector<formats::TensorInfo> tensors_;
};

void expect_refused(ErrorCode code, const models::SyntheticShape& shape,
                    const std::function<void(ChangedSource&)>& change, std::initializer_list<std::string_view> parts) {
  auto source = std::make_shared<ChangedSource>(shape);
  change(*source);
  expect_error(models::as_gguf(source), code, parts);
}

TEST(GgufCheckpoint, ATiedHeadIsLeftOut) {
  auto source = std::make_shared<ChangedSource>(kShapes[0]);
  source->add("lm_head.weight", "backbone.embeddings.weight");
  KRAIT_ASSERT_VALUE(const Source tied, models::as_gguf(source));
  EXPECT_EQ(tied->find("output.weight"), nullptr);
  source->set("tie_word_embeddings", false);
  KRAIT_ASSERT_VALUE(const Source untied, models::as_gguf(source));
  EXPECT_NE(untied->find("output.weight"), nullptr);
}

TEST(GgufCheckpoint, RefusesWhatGgufHasNoWordFor) {
  const auto unsupported = ErrorCode::kUnsupported;
  const auto& mamba = kShapes[0];
  const auto& mamba2 = kShapes[1];
  expect_refused(unsupported, mamba, [](auto& s) { s.set("model_type", std::string("zamba2")); },
                 {"zamba2", "changed.safetensors"});
  expect_refused(unsupported, mamba,
                 [](auto& s) { s.add("backbone.layers.0.mixer.in_proj.bias", "backbone.layers.0.mixer.D"); },
                 {"in_proj.bias", "no place in a mamba"});
  expect_refused(unsupported, mamba, [](auto& s) { s.add("backbone.layers.x.norm.weight", "backbone.norm_f.weight"); },
                 {"layers.x", "no place"});
  expect_refused(unsupported, mamba, [](auto& s) { s.drop("backbone.embeddings.weight"); }, {"transformers' names"});
  expect_refused(unsupported, mamba2, [](auto& s) { s.set("rms_norm", false); }, {"norm", "changed.safetensors"});
  expect_refused(unsupported, mamba2, [](auto& s) { s.set("norm_before_gate", true); }, {"norm_before_gate true"});
  expect_refused(unsupported, mamba2, [](auto& s) { s.set("time_step_limit", std::vector<double>{0, 0.1}); },
                 {"limits of the time step"});
}

TEST(GgufCheckpoint, RefusesAnIncompleteCheckpoint) {
  expect_refused(ErrorCode::kNotFound, kShapes[0], [](auto& s) { s.drop("backbone.layers.1.mixer.D"); },
                 {"layers.1.mixer.D", "changed.safetensors"});
  expect_refused(ErrorCode::kNotFound, kShapes[0], [](auto& s) { s.set("num_hidden_layers", std::int64_t{3}); },
                 {"layers.2."});
  expect_refused(ErrorCode::kNotFound, kShapes[1], [](auto& s) { s.drop("backbone.layers.0.mixer.out_proj.weight"); },
                 {"layers.0.mixer.out_proj.weight"});
  expect_refused(ErrorCode::kCorrupt, kShapes[2], [](auto& s) { s.set("n_groups", std::int64_t{3}); },
                 {"3 groups", "changed.safetensors"});
}

}  // namespace
}  // namespace krait::tests
