// Models, tokens and text through the C interface.
#include <filesystem>

#include "tests/api/api_testing.h"

namespace krait::tests {
namespace {

TEST(Models, TheBundledOneIsFoundFromTheLibrary) {
  char* path = nullptr;
  ok(krait_bundled_model(&path));
  EXPECT_TRUE(std::filesystem::equivalent(path, kTales)) << path;
  krait_free(path);
}

TEST(Models, SayWhatTheyAre) {
  const Model model = open(kTales);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(model.get(), &facts));
  EXPECT_STREQ(facts.architecture, "mamba2");
  EXPECT_GT(facts.layers, 0);
  EXPECT_GT(facts.parameters, 1000000);
  EXPECT_GE(facts.vocabulary, facts.tokenizer_size);
  EXPECT_GT(facts.tokenizer_size, 256);
  EXPECT_GT(facts.state_bytes, 0U);
  EXPECT_EQ(facts.growth_bytes, 0U);
  EXPECT_EQ(facts.states_that_fit, (std::uint64_t{64} << 20) / facts.state_bytes);
  EXPECT_EQ(facts.states_in_use, 0U);
  const Session session = start(model);
  const Session twin = fork(session);
  ok(krait_model_describe(model.get(), &facts));
  EXPECT_EQ(facts.states_in_use, 1U);
  EXPECT_EQ(krait_session_state_bytes(session.get()), facts.state_bytes);
}

TEST(Models, KeepWeightsAndStatesAsAsked) {
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  const Model plain = open(kTales, &options);
  options.weights = "int8";
  options.state_dtype = "bf16";
  const Model small = open(kTales, &options);
  krait_model_facts plain_facts = KRAIT_MODEL_FACTS;
  krait_model_facts small_facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(plain.get(), &plain_facts));
  ok(krait_model_describe(small.get(), &small_facts));
  EXPECT_STREQ(small_facts.weights, "int8");
  EXPECT_LT(small_facts.weight_bytes, plain_facts.weight_bytes);
  EXPECT_LT(small_facts.state_bytes, plain_facts.state_bytes);
}

TEST(Models, StatesThatGrowSaySo) {
  const Model model = open(kBamba);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(model.get(), &facts));
  EXPECT_GT(facts.growth_bytes, 0U);
  const Session session = start(model);
  EXPECT_EQ(krait_session_state_bytes(session.get()), facts.state_bytes);
  feed(session, std::vector<std::int32_t>(65, 1));
  EXPECT_EQ(krait_session_state_bytes(session.get()), facts.state_bytes + 2 * facts.growth_bytes);
}

TEST(Models, TextGoesToTokensAndBack) {
  const Model model = open(kTales);
  const std::string text = "The fox said: \"Größe zählt nicht.\"";
  std::int32_t* ids = nullptr;
  std::size_t count = 0;
  ok(krait_tokenize(model.get(), text.data(), text.size(), 0, &ids, &count));
  ASSERT_GT(count, 5U);

  char* back = nullptr;
  std::size_t bytes = 0;
  ok(krait_detokenize(model.get(), ids, count, &back, &bytes));
  EXPECT_EQ(std::string(back, bytes), text);
  EXPECT_EQ(back[bytes], '\0');

  krait_decoder* made = nullptr;
  ok(krait_decoder_create(model.get(), &made));
  const Decoder decoder(made);
  std::string streamed;
  const char* piece = nullptr;
  for (std::size_t i = 0; i < count; ++i) {
    ok(krait_decoder_feed(made, ids[i], &piece, &bytes));
    // A piece never ends within a character.
    if (bytes > 0) {
      EXPECT_NE(static_cast<unsigned char>(piece[bytes - 1]), 0xC3) << streamed;
    }
    streamed.append(piece, bytes);
  }
  ok(krait_decoder_finish(made, &piece, &bytes));
  EXPECT_EQ(streamed + piece, text);
  krait_free(ids);
  krait_free(back);
}

TEST(Models, EmptyTextIsNoTokensUnlessItStartsOne) {
  const Model model = open(kTales);
  std::int32_t* ids = nullptr;
  std::size_t count = 7;
  ok(krait_tokenize(model.get(), nullptr, 0, 0, &ids, &count));
  EXPECT_EQ(count, 0U);
  krait_free(ids);
  ok(krait_tokenize(model.get(), nullptr, 0, 1, &ids, &count));
  ASSERT_EQ(count, 1U);
  const Session session = start(model);
  ok(krait_session_feed_text(session.get(), nullptr, 0));
  EXPECT_EQ(krait_session_position(session.get()), 1);
  const Session fed = start(model);
  feed(fed, {ids[0]});
  EXPECT_EQ(logits(session), logits(fed));
  krait_free(ids);
}

TEST(Models, NameTheEndOfAText) {
  const Model model = open(kTales);
  const std::int32_t* ids = nullptr;
  std::size_t count = 0;
  ok(krait_model_end_ids(model.get(), &ids, &count));
  ASSERT_GE(count, 1U);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(model.get(), &facts));
  EXPECT_LT(ids[0], facts.vocabulary);
  // A special token: no text.
  char* text = nullptr;
  std::size_t bytes = 1;
  ok(krait_detokenize(model.get(), ids, count, &text, &bytes));
  EXPECT_EQ(bytes, 0U);
  krait_free(text);
}

TEST(Models, WithoutATokenizerTakeTokensAndSayWhyNotText) {
  const Model model = open(kMamba);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(model.get(), &facts));
  EXPECT_EQ(facts.tokenizer_size, 0);
  const Session session = start(model);
  EXPECT_EQ(krait_session_feed_text(session.get(), "a", 1), KRAIT_NOT_FOUND);
  EXPECT_NE(std::string(krait_last_error()).find("tokenizer"), std::string::npos) << krait_last_error();
  feed(session, {1, 2, 3});
  EXPECT_EQ(logits(session).size(), static_cast<std::size_t>(facts.vocabulary));
}

}  // namespace
}  // namespace krait::tests
