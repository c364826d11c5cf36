// From transformers' layout to GGUF and back, and from llama.cpp's own files to transformers' layout: the same tensors
// where nothing was folded, and the same model everywhere.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "krait/formats/gguf_writer.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/models/gguf_checkpoint.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/golden_logits.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace krait::tests {
namespace {

using formats::WeightSource;
using Source = std::shared_ptr<const WeightSource>;

const std::vector<std::int32_t> kIds = {3, 1, 4, 1, 5, 9, 2, 6, 5, 35, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6};

// A few roundings of a weight on the way to a logit: as in gguf_checkpoint_test.cpp. One of bf16 is 2^15 times one of
// f32.
constexpr double kF32Bound = 2e-6, kBf16Bound = kF32Bound * 32768;

// A scale that goes into a matrix rounds every weight, as f32 products are rounded: as far apart as two evaluations in
// f32, for which golden_logits_test.cpp has this.
constexpr double kScaledBound = 2e-5;

template <class T>
T value(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// As the files that `krait convert` would write.
Source as_gguf_file(const Source& source, const TemporaryFolder& folder) {
  value(formats::write_gguf(folder.path() / "m.gguf", *value(models::as_gguf(source))));
  return value(formats::open_weights(folder.path() / "m.gguf"));
}

Source as_transformers_folder(const Source& source, const TemporaryFolder& folder, std::optional<DType> dtype = {}) {
  const Source made = value(models::as_transformers(source, dtype));
  const std::filesystem::path out = folder.path() / "hf";
  std::filesystem::create_directories(out);
  value(formats::write_safetensors(out / "model.safetensors", *made, {{"format", "pt"}}));
  std::ofstream(out / "config.json") << value(made->config().to_json());
  return value(formats::open_weights(out));
}

std::vector<float> values_of(const WeightSource& source, const std::string& name) {
  const TensorView view = value(source.view(name));
  std::vector<float> values(static_cast<std::size_t>(*element_count(view.shape)));
  value(formats::read_as_f32(view, values));
  return values;
}

// The values of a tensor, which may stand expert by expert on the way back.
std::vector<float> values_again(const WeightSource& source, const std::string& name) {
  if (source.find(name) != nullptr) return values_of(source, name);
  const std::size_t dot = name.rfind('.');
  std::vector<float> values;
  for (int expert = 0;; ++expert) {
    const std::string one = fmt::format("{}.{}.{}.weight", name.substr(0, dot), expert, name.substr(dot + 1));
    if (source.find(one) == nullptr) break;
    const auto more = values_of(source, one);
    values.insert(values.end(), more.begin(), more.end());
  }
  return values;
}

// What may lie between a value and the same after both ways.
double bound(std::string_view architecture, std::string_view name, double before) {
  constexpr double kHalfUlp = 0x1p-24;  // relative, of an f32
  // exp() was rounded, which log() makes an absolute error; then log() was.
  if (name.ends_with("A_log")) return (1.0 + std::abs(before)) * kHalfUlp * 1.001;
  // 1 was added; what is taken away again is exact.
  const bool from_one =
      name.find("norm") != std::string_view::npos && name.find("linear_attn") == std::string_view::npos;
  if (architecture == "qwen3_next" && from_one) return 2.0 * kHalfUlp;
  return 0.0;
}

TEST(GgufRoundTrip, TensorsComeBackAsTheyWere) {
  std::set<std::string_view> seen;
  for (const models::SyntheticShape& shape : kTinyModels) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Source source = models::make_synthetic(shape, dtype, /*seed=*/7);
      const auto gguf = models::as_gguf(source);
      if (!gguf) {
        EXPECT_EQ(gguf.error().code, ErrorCode::kUnsupported) << shape.name << ": " << gguf.error().message;
        continue;
      }
      const TemporaryFolder folder;
      const Source back = as_transformers_folder(as_gguf_file(source, folder), folder);
      seen.insert(shape.architecture);
      EXPECT_EQ(back->config().text("model_type").value_or(""), shape.architecture);
      // Its multipliers are in the weights now.
      if (shape.architecture != "falcon_h1") {
        for (const formats::TensorInfo& tensor : source->tensors()) {
          const auto before = values_of(*source, tensor.name), after = values_again(*back, tensor.name);
          ASSERT_EQ(before.size(), after.size()) << shape.name << " " << tensor.name;
          for (std::size_t i = 0; i < before.size(); ++i) {
            const double difference = std::abs(static_cast<double>(before[i]) - static_cast<double>(after[i]));
            ASSERT_LE(difference, bound(shape.architecture, tensor.name, static_cast<double>(before[i])))
                << shape.name << " " << tensor.name << " " << i;
          }
          if (const auto* there = back->find(tensor.name)) {
            // Plans of tiny models leave out dimensions of length 1.
            Shape wanted = tensor.shape;
            if (tensor.name.find(".conv") != std::string::npos && wanted.size() == 2 && there->shape.size() == 3) {
              wanted.insert(wanted.begin() + 1, 1);
            }
            EXPECT_EQ(there->shape, wanted) << shape.name << " " << tensor.name;
          }
        }
      }
      // A rounding each; of bf16 when a multiplier goes into a bf16 weight.
      const bool rounded = shape.architecture == "falcon_h1" && dtype == DType::kBF16;
      EXPECT_LE(relative_error(logits_of(back, kIds), logits_of(source, kIds)), rounded ? kBf16Bound : kF32Bound)
          << shape.name << " " << to_string(dtype);
    }
  }
  EXPECT_EQ(seen.size(), 10U);
}

TEST(GgufRoundTrip, AModelThatCameBackMeetsItsGoldenLogits) {
  for (const char* name : {"mamba_tied", "falcon_mamba", "mamba2_g2", "bamba", "granite_hybrid", "granite_hybrid_rope",
                           "falcon_h1", "falcon_h1_norm", "lfm2"}) {
    const std::filesystem::path golden_folder = std::filesystem::path(KRAIT_SOURCE_DIR) / "tests/golden" / name;
    const TemporaryFolder folder;
    const Source source = value(formats::open_weights(golden_folder));
    const Source back = as_transformers_folder(as_gguf_file(source, folder), folder);
    const GoldenLogits golden = read_golden(golden_folder);
    for (std::size_t s = 0; s < golden.sequences.size(); ++s) {
      // As in golden_logits_test.cpp: f32 against references of 6 to 7 digits.
      EXPECT_LE(relative_error(logits_of(back, golden.sequences[s]), golden.logits[s]), 2e-5) << name;
    }
  }
}

// A checkpoint without the tensors whose names end in one of a list, and without a window.
class Without final : public WeightSource {
 public:
  Without(Source source, const std::vector<std::string>& endings)
      : source_(std::move(source)), config_(source_->config()) {
    config_.set("lfm2.attention.sliding_window", std::int64_t{0});
    for (const auto& tensor : source_->tensors()) {
      const bool out = std::ranges::any_of(endings, [&](const auto& ending) { return tensor.name.ends_with(ending); });
      if (!out) tensors_.push_back(tensor);
    }
  }
  std::string_view format() const override { return source_->format(); }
  const formats::Config& config() const override { return config_; }
  std::span<const formats::TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return source_->origin(); }
  Result<TensorView> view(std::string_view name) const override { return source_->view(name); }

 private:
  Source source_;
  formats::Config config_;
  std::vector<formats::TensorInfo> tensors_;
};

// llama.cpp's architecture test draws every tensor its graphs can take; transformers has no place for some.
struct OutsideFile {
  std::string name, refused;
  std::vector<std::string> without;
};
const std::vector<OutsideFile> kOutside = {
    {"mamba", "", {}},
    {"mamba2", "", {}},
    {"mamba2-bf16", "", {}},
    {"mamba2-q8_0", "", {}},
    {"mamba2-q4_0", "", {}},
    {"mamba2-q4_k", "", {}},
    {"mamba2-q5_k", "", {}},
    {"mamba2-q6_k", "", {}},
    {"nemotron-h", "", {}},
    {"jamba", "attn_k.bias", {"attn_q.bias", "attn_k.bias", "attn_v.bias"}},
    {"lfm2", "sliding_window", {"attn_q.bias", "attn_k.bias", "attn_v.bias"}},
    {"falcon-h1", "attn_output.bias", {"attn_output.bias", "rope_freqs.weight"}},
    {"granitehybrid", "bias", {"rope_freqs.weight", "ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"}},
    {"qwen3next", "ssm_in", {"attn_q.bias", "attn_k.bias", "attn_v.bias", "ssm_in.weight", "ssm_in.scale"}},
};

TEST(GgufRoundTrip, FilesOfLlamaCppHaveTheSameLogitsInTransformersLayout) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  for (const auto& [name, refused, without] : kOutside) {
    const Source whole = value(formats::open_weights(shared / "golden/gguf" / name / "model.gguf"));
    if (!refused.empty())
      expect_error(models::as_transformers(whole), ErrorCode::kUnsupported, {refused, "transformers"});
    const Source source = std::make_shared<Without>(whole, without);
    const TemporaryFolder folder;
    const Source back = as_transformers_folder(source, folder, DType::kF32);
    EXPECT_LE(relative_error(logits_of(back, kIds), logits_of(source, kIds)), kScaledBound) << name;
    // Of their own dtype, where that is no block, and f32 else, it is no other model.
    if (name.find("-q") != std::string::npos) continue;
    const TemporaryFolder another;
    const Source own = as_transformers_folder(source, another);
    EXPECT_LE(relative_error(logits_of(own, kIds), logits_of(source, kIds)),
              name == "mamba2-bf16" ? kBf16Bound : kScaledBound)
        << name;
  }
}

TEST(GgufRoundTrip, MatricesHaveTheDtypeAskedFor) {
  const auto* shape = std::ranges::find(kTinyModels, "tiny-mamba2", &models::SyntheticShape::name);
  const TemporaryFolder folder;
  const Source gguf = as_gguf_file(models::make_synthetic(*shape, DType::kF16, 7), folder);
  for (const auto dtype : {std::optional<DType>(), std::optional(DType::kF32), std::optional(DType::kBF16)}) {
    const Source made = value(models::as_transformers(gguf, dtype));
    EXPECT_EQ(made->find("backbone.layers.0.mixer.in_proj.weight")->dtype, dtype.value_or(DType::kF16));
    EXPECT_EQ(made->find("backbone.layers.0.mixer.A_log")->dtype, DType::kF32);
    EXPECT_EQ(made->find("backbone.layers.0.mixer.conv1d.weight")->shape.size(), 3U);
  }
}

TEST(GgufRoundTrip, RefusesWhatIsNoGguf) {
  const Source source = models::make_synthetic(kTinyModels[0], DType::kF32, 7);
  expect_error(models::as_transformers(source), ErrorCode::kUnsupported, {"no GGUF", "synthetic"});
}

}  // namespace
}  // namespace krait::tests
