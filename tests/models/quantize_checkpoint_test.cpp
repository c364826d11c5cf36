#include "krait/models/quantize_checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "krait/formats/safetensors_writer.h"
#include "krait/models/registry.h"
#include "krait/models/synthetic.h"
#include "krait/models/weight_packing.h"
#include "tests/support/golden_logits.h"

namespace krait::models {
namespace {

namespace fs = std::filesystem;

constexpr SyntheticShape kTiny{"tiny", "mamba", 2, 48, 61, 16};

constexpr kernels::PanelFormat kFormats[] = {
    kernels::PanelFormat::kInt8,         kernels::PanelFormat::kInt8Block,
    kernels::PanelFormat::kInt4Group32,  kernels::PanelFormat::kInt4Group32Zero,
    kernels::PanelFormat::kInt4Group128, kernels::PanelFormat::kInt4Group128Zero,
};

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / fmt::format("krait-quantize-{}", ::getpid())) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// A synthetic checkpoint's configuration, as a file would have it.
constexpr std::string_view kConfig = R"({"model_type": "mamba", "hidden_size": 48, "num_hidden_layers": 2,
  "state_size": 16, "intermediate_size": 96, "tie_word_embeddings": true, "time_step_limit": [0.0, Infinity]})";

std::uint64_t bytes_of(const formats::WeightSource& source) {
  std::uint64_t bytes = 0;
  for (const formats::TensorInfo& tensor : source.tensors()) bytes += tensor.bytes;
  return bytes;
}

// Returns the bytes of the tensors.
std::uint64_t write(const formats::WeightSource& source, const fs::path& folder) {
  std::vector<formats::NamedTensor> tensors;
  for (const formats::TensorInfo& tensor : source.tensors())
    tensors.push_back({tensor.name, *source.view(tensor.name)});
  EXPECT_TRUE(formats::write_safetensors(folder / "model.safetensors", tensors));
  return bytes_of(source);
}

std::vector<float> logits_of(std::unique_ptr<Model> model) {
  runtime::Engine engine(std::move(model), {.threads = 1});
  runtime::Session session(engine);
  std::vector<formats::TokenId> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(i * 7 % 61);
  session.feed(ids);
  return {session.logits().begin(), session.logits().end()};
}

TEST(QuantizeCheckpoint, TheFileGivesTheBitsOfRoundingAtLoad) {
  for (const auto format : kFormats) {
    SCOPED_TRACE(to_string(format));
    const Folder folder;
    std::shared_ptr<const formats::WeightSource> source = make_synthetic(kTiny, DType::kF32, 5);
    std::int64_t calls = 0;
    std::int64_t matrices = 0;
    const auto quantized = quantize_checkpoint(source, format, [&](std::int64_t, std::int64_t total) {
      matrices = total;
      return ++calls > 0;
    });
    ASSERT_TRUE(quantized) << quantized.error().message;
    EXPECT_EQ(matrices, 1 + 2 * 4);
    EXPECT_EQ(calls, matrices);
    EXPECT_LT(write(**quantized, folder.path()) * 2, bytes_of(*source));
    const auto config = quantized_config(kConfig, format);
    ASSERT_TRUE(config);
    std::ofstream(folder.path() / "config.json") << *config;

    auto stored = formats::open_weights(folder.path());
    ASSERT_TRUE(stored) << stored.error().message;
    auto from_file = load_model(*std::move(stored));
    ASSERT_TRUE(from_file) << from_file.error().message;
    EXPECT_EQ((*from_file)->info().weights, format);
    LoadOptions options;
    options.weights = format;
    auto rounded = load_model(source, options);
    ASSERT_TRUE(rounded) << rounded.error().message;
    EXPECT_EQ((*from_file)->info().parameters, (*rounded)->info().parameters);
    EXPECT_EQ(logits_of(*std::move(from_file)), logits_of(*std::move(rounded)));

    // And may be widened again.
    auto again = formats::open_weights(folder.path());
    options.weights = kernels::PanelFormat::kF32;
    auto wide = load_model(*std::move(again), options);
    ASSERT_TRUE(wide) << wide.error().message;
    EXPECT_EQ((*wide)->info().weights, kernels::PanelFormat::kF32);
    EXPECT_EQ(logits_of(*std::move(wide)).size(), 61U);
  }
}

TEST(QuantizeCheckpoint, DamagedScalesAreNamed) {
  const Folder folder;
  std::shared_ptr<const formats::WeightSource> source = make_synthetic(kTiny, DType::kF32, 5);
  const auto quantized =
      quantize_checkpoint(source, kernels::PanelFormat::kInt4Group32, [](std::int64_t, std::int64_t) { return true; });
  ASSERT_TRUE(quantized);
  write(**quantized, folder.path());
  // The configuration promises other groups than the file has.
  std::ofstream(folder.path() / "config.json") << *quantized_config(kConfig, kernels::PanelFormat::kInt4Group128);
  auto stored = formats::open_weights(folder.path());
  ASSERT_TRUE(stored);
  const auto model = load_model(*std::move(stored));
  ASSERT_FALSE(model);
  EXPECT_NE(model.error().message.find(".scale"), std::string::npos) << model.error().message;
}

TEST(QuantizeCheckpoint, OtherPeoplesQuantizationIsRefusedByName) {
  const auto config = formats::Config::parse_json(R"({"quantization_config": {"quant_method": "awq"}})", "config.json");
  ASSERT_TRUE(config);
  const auto format = stored_low_bit_format(*config);
  ASSERT_FALSE(format);
  EXPECT_NE(format.error().message.find("awq"), std::string::npos);
}

TEST(QuantizeCheckpoint, StopsWhenAsked) {
  const auto quantized = quantize_checkpoint(make_synthetic(kTiny, DType::kF32, 5), kernels::PanelFormat::kInt8,
                                             [](std::int64_t done, std::int64_t) { return done < 2; });
  ASSERT_FALSE(quantized);
  EXPECT_EQ(quantized.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace krait::models
