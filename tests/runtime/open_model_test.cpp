// Options in words, where the bundled model is found, and what a model and its tokenizer say together (prompt.h).
#include "krait/runtime/open_model.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "krait/runtime/prompt.h"
#include "tests/formats/temporary_folder.h"

namespace krait::runtime {
namespace {

TEST(LoadOptions, AreReadFromWords) {
  const auto options = load_options("int4-group128", "bf16", "int8");
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(kernels::to_string(*options->weights), "int4-group128");
  EXPECT_EQ(options->state_dtype, DType::kBF16);
  EXPECT_EQ(options->kv_dtype, DType::kI8);
  const auto usual = load_options("", "", "");
  ASSERT_TRUE(usual);
  EXPECT_FALSE(usual->weights);
  EXPECT_EQ(usual->state_dtype, DType::kF32);
}

TEST(LoadOptions, NameTheWordThatIsNone) {
  for (const auto& [weights, state, kv] :
       {std::tuple{"int5", "", ""}, std::tuple{"", "int5", ""}, std::tuple{"", "f32", "int5"}}) {
    const auto options = load_options(weights, state, kv);
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(options.error().message.find("int5"), std::string::npos) << options.error().message;
  }
}

TEST(BundledModel, StandsAboveTheBinary) {
  const tests::TemporaryFolder folder;
  const auto model = folder.path() / "share/krait/models/tales";
  std::filesystem::create_directories(model);
  EXPECT_FALSE(bundled_model_near(folder.path() / "bin/krait"));
  std::filesystem::copy_file(KRAIT_SOURCE_DIR "/models/tales/config.json", model / "config.json");
  for (const char* binary : {"bin/krait", "lib/libkrait.so", "lib/x86_64-linux-gnu/libkrait.so.0"}) {
    EXPECT_EQ(bundled_model_near(folder.path() / binary), model) << binary;
  }
  EXPECT_FALSE(bundled_model_near(folder.path() / "bin/krait", "tales-m3"));
  EXPECT_FALSE(bundled_model_near(folder.path() / "1/2/3/4/5/6/krait"));
  EXPECT_FALSE(bundled_model_near(""));
}

// All bytes, and the end of a text as token 0, which this kind of tokenizer always has.
std::unique_ptr<formats::Tokenizer> tokenizer_of_bytes() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) lines += fmt::format("{} b'\\x{:02x}' 1\n", byte + 1, byte);
  auto tokenizer = formats::parse_world_vocabulary(lines, "bytes");
  if (!tokenizer) throw std::runtime_error(tokenizer.error().message);
  return *std::move(tokenizer);
}

TEST(Prompt, ATextEndsWhereTheModelOrTheTokenizerSays) {
  const auto tokenizer = tokenizer_of_bytes();
  using Ids = std::vector<formats::TokenId>;
  models::ModelInfo info;
  info.eos = {0, 5};
  EXPECT_EQ(end_of_text_ids(info, tokenizer.get()), (Ids{0, 5}));
  info.eos = {5};
  EXPECT_EQ(end_of_text_ids(info, tokenizer.get()), (Ids{5, 0}));
  EXPECT_EQ(end_of_text_ids(info, nullptr), (Ids{5}));
}

TEST(Prompt, OnlyTokensOfBothMayBeDrawn) {
  const auto tokenizer = tokenizer_of_bytes();
  models::ModelInfo info;
  info.vocabulary = 1000;
  EXPECT_EQ(drawable_vocabulary(info, tokenizer.get()), tokenizer->size());
  EXPECT_EQ(drawable_vocabulary(info, nullptr), 1000);
  info.vocabulary = 3;
  EXPECT_EQ(drawable_vocabulary(info, tokenizer.get()), 3);
}

TEST(Prompt, AnEmptyTextThatStartsIsTheTokenThatStartsOne) {
  const auto tokenizer = tokenizer_of_bytes();
  using Ids = std::vector<formats::TokenId>;
  models::ModelInfo info;
  ASSERT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(encode_prompt(info, *tokenizer, "a", true), (Ids{'a' + 1}));
  EXPECT_EQ(encode_prompt(info, *tokenizer, "", false), Ids());
  EXPECT_EQ(encode_prompt(info, *tokenizer, "", true), (Ids{tokenizer->bos().value_or(0)}));
}

}  // namespace
}  // namespace krait::runtime
