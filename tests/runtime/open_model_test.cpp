// Options in words, where the bundled model is found, and what a model and its tokenizer say together (prompt.h).
#include "krait/runtime/open_model.h"

#include <gtest/gtest.h>

#include "krait/runtime/prompt.h"
#include "tests/formats/temporary_folder.h"

namespace krait::runtime {
namespace {

using formats::TokenId;

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
  EXPECT_FALSE(bundled_model_near(folder.path() / "1/2/3/4/5/6/krait"));
  EXPECT_FALSE(bundled_model_near(""));
}

TEST(Prompt, AsksTheModelAndTheTokenizer) {
  const auto tokenizer = formats::open_tokenizer(KRAIT_SOURCE_DIR "/models/tales");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const TokenId end = (*tokenizer)->eos().value();
  models::ModelInfo info;
  info.vocabulary = (*tokenizer)->size() + 7;
  info.eos = {end, 5};
  EXPECT_EQ(end_of_text_ids(info, tokenizer->get()), (std::vector<TokenId>{end, 5}));
  info.eos = {5};
  EXPECT_EQ(end_of_text_ids(info, tokenizer->get()), (std::vector<TokenId>{5, end}));
  EXPECT_EQ(end_of_text_ids(info, nullptr), (std::vector<TokenId>{5}));
  EXPECT_EQ(drawable_vocabulary(info, tokenizer->get()), (*tokenizer)->size());
  EXPECT_EQ(drawable_vocabulary(info, nullptr), info.vocabulary);
  info.vocabulary = 3;
  EXPECT_EQ(drawable_vocabulary(info, tokenizer->get()), 3);

  ASSERT_FALSE((*tokenizer)->adds_bos());
  EXPECT_EQ(encode_prompt(info, **tokenizer, "a fox", true), (*tokenizer)->encode("a fox"));
  EXPECT_TRUE(encode_prompt(info, **tokenizer, "", false).empty());
  EXPECT_EQ(encode_prompt(info, **tokenizer, "", true).size(), 1U);
}

}  // namespace
}  // namespace krait::runtime
