// The generation loop, with a tiny model of random weights and a byte-level tokenizer: half of what it writes is not
// UTF-8.
#include "krait/runtime/generate.h"

#include <gtest/gtest.h>

#include "krait/models/registry.h"
#include "krait/models/synthetic.h"
#include "tests/support/byte_tokenizer.h"

namespace krait::runtime {
namespace {

using tests::byte_tokenizer;

class GenerateTest : public testing::Test {
 protected:
  GenerateTest() : tokenizer_(byte_tokenizer()) {
    const models::SyntheticShape shape{"tiny", "mamba", 2, 16, 256, 8};
    auto model = models::load_model(models::make_synthetic(shape, DType::kF32, 3));
    if (!model) throw std::runtime_error(model.error().message);
    engine_ = std::make_unique<Engine>(*std::move(model), EngineOptions{.threads = 1});
  }

  Session prompted() {
    Session session(*engine_);
    session.feed(tokenizer_->encode("Hello"));
    return session;
  }
  Sampler sampler(std::uint64_t seed) {
    SamplerOptions options;
    options.temperature = 1.5F;
    options.top_k = 0;
    options.seed = seed;
    return {options, 256};
  }

  std::unique_ptr<formats::Tokenizer> tokenizer_;
  std::unique_ptr<Engine> engine_;
};

bool valid_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t j = 1; j < length; ++j) {
      if ((static_cast<unsigned char>(text[i + j]) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

TEST_F(GenerateTest, EveryPieceIsValidUtf8WhateverTheModelWrites) {
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Session session = prompted();
    Sampler draws = sampler(seed);
    const Generated result = generate(session, draws, *tokenizer_, {.max_tokens = 100}, [](std::string_view piece) {
      EXPECT_TRUE(valid_utf8(piece));
      return true;
    });
    EXPECT_EQ(result.tokens.size(), 100U);
    EXPECT_EQ(result.reason, FinishReason::kLength);
  }
}

TEST_F(GenerateTest, StopsAtAStopTokenWithoutShowingIt) {
  Session first = prompted();
  Sampler draws = sampler(1);
  const auto ignore = [](std::string_view) { return true; };
  const Generated all = generate(first, draws, *tokenizer_, {.max_tokens = 30}, ignore);
  const TokenId stop = all.tokens[10];
  const auto position = std::find(all.tokens.begin(), all.tokens.end(), stop) - all.tokens.begin();

  Session second = prompted();
  Sampler same = sampler(1);
  GenerateOptions options;
  options.max_tokens = 30;
  options.stop_ids = {stop};
  const Generated cut = generate(second, same, *tokenizer_, options, ignore);
  EXPECT_EQ(cut.reason, FinishReason::kStopToken);
  EXPECT_EQ(cut.tokens, std::vector<TokenId>(all.tokens.begin(), all.tokens.begin() + position));
}

TEST_F(GenerateTest, StopsAtAStopString) {
  Session session = prompted();
  SamplerOptions forced;
  forced.temperature = 0;
  forced.logit_bias = {{'x', 1000.0F}};  // writes x for ever
  Sampler draws(forced, 256);
  GenerateOptions options;
  options.stop_strings = {"xxxx"};
  std::string text;
  const Generated result = generate(session, draws, *tokenizer_, options, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  EXPECT_EQ(result.reason, FinishReason::kStopString);
  EXPECT_EQ(text, "");
  EXPECT_EQ(result.tokens.size(), 4U);
}

TEST_F(GenerateTest, ACallerCanCancel) {
  Session session = prompted();
  SamplerOptions forced;
  forced.temperature = 0;
  forced.logit_bias = {{'y', 1000.0F}};
  Sampler draws(forced, 256);
  int pieces = 0;
  const Generated result = generate(session, draws, *tokenizer_, {}, [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(result.reason, FinishReason::kCancelled);
  EXPECT_EQ(result.tokens.size(), 3U);
}

TEST_F(GenerateTest, ASessionThatGoesOnLaterHasReadEveryToken) {
  for (const bool continue_later : {false, true}) {
    Session session = prompted();
    Sampler draws = sampler(2);
    GenerateOptions options;
    options.max_tokens = 8;
    options.continue_later = continue_later;
    generate(session, draws, *tokenizer_, options, [](std::string_view) { return true; });
    EXPECT_EQ(session.position(), 5 + 8 - (continue_later ? 0 : 1));
  }
}

}  // namespace
}  // namespace krait::runtime
