// A vocabulary so large that the loop computes the head in stretches: the same tokens as from whole rows, in less
// memory.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "krait/runtime/logprobs.h"
#include "tests/server/generation_testing.h"
#include "tests/support/byte_tokenizer.h"

namespace krait::server {
namespace {

using tests::Alone;
using tests::copy_of;
using tests::expect_alike;
using tests::Recorder;
using tests::say_alone;
using tests::send;

constexpr int kVocabulary = 262'144;
constexpr models::SyntheticShape kWide{"wide", "mamba2", 1, 32, kVocabulary, 8, 8};

// All sorts of draws, most of which need the likeliest tokens only.
GenerationRequest request_of(std::uint64_t seed) {
  GenerationRequest request;
  request.prompt = tests::random_tokens(1 + static_cast<std::int64_t>(seed * 13 % 90), kVocabulary, seed);
  request.max_tokens = 6;
  request.use_store = false;
  request.sampler.seed = seed;
  request.sampler.temperature = seed % 3 == 1 ? 0.8F : 0.0F;
  request.sampler.top_p = 0.9F;
  if (seed % 8 == 2) {
    request.sampler.temperature = 1;
    request.sampler.top_k = 0;
    request.sampler.top_p = 1;
  }
  if (seed % 8 == 5) request.sampler.repetition_penalty = 1.2F;
  return request;
}

class LargeVocabulary : public testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = tests::byte_tokenizer(kVocabulary); }
  static void TearDownTestSuite() { tokenizer_.reset(); }
  static std::unique_ptr<formats::Tokenizer> tokenizer_;
};
std::unique_ptr<formats::Tokenizer> LargeVocabulary::tokenizer_;

TEST_F(LargeVocabulary, SaysWhatItSaysFromWholeRows) {
  const auto engine = tests::make_engine(kWide, {.threads = 2, .prefill_chunk = 128});
  const auto solo = tests::make_engine(kWide, {.threads = 1, .prefill_chunk = 128});
  ASSERT_LT(engine->logit_rows_at_once(), 64);
  GenerationLoop loop(*engine, *tokenizer_, nullptr);
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  {
    const tests::HeldLoop all_at_once(loop);
    for (std::uint64_t i = 0; i < 32; ++i) {
      requests.push_back(request_of(i));
      GenerationRequest request = copy_of(requests.back());
      if (i % 8 == 3) request.logprobs = 2;
      if (i % 8 == 4) request.return_state = true;
      if (i % 8 == 6) request.prompt_logprobs = 1;
      got.push_back(send(loop, std::move(request)));
    }
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer_, kVocabulary, requests[i]), "request " + std::to_string(i));
    if (i % 8 == 4) {
      EXPECT_FALSE(got[i]->finish->state.logits().empty());
    }
  }
}

// A stop token's row is computed only then, where the state behind it is kept.
TEST_F(LargeVocabulary, AStateBehindAStopTokenHasItsLogits) {
  const auto engine = tests::make_engine(kWide, {.threads = 1, .prefill_chunk = 128});
  GenerationLoop loop(*engine, *tokenizer_, nullptr);
  const GenerationRequest whole = request_of(3);
  const auto first = send(loop, copy_of(whole));
  ASSERT_TRUE(first->wait().finish);
  GenerationRequest stops = copy_of(whole);
  stops.stop_ids = {first->tokens[4]};
  stops.return_state = true;
  const auto got = send(loop, std::move(stops));
  ASSERT_TRUE(got->wait().finish);
  EXPECT_EQ(got->finish->reason, runtime::FinishReason::kStopToken);
  const runtime::State& state = got->finish->state;
  ASSERT_FALSE(state.logits().empty());
  const auto solo = tests::make_engine(kWide, {.threads = 1, .prefill_chunk = 128});
  runtime::Session session(*solo);
  session.feed(whole.prompt);
  for (const TokenId id : got->tokens) session.feed({&id, 1});
  EXPECT_TRUE(std::ranges::equal(state.logits(), session.logits()));
}

// docs/scheduling.md has the figures.
TEST_F(LargeVocabulary, ThirtyTwoSequencesTakeAFewMegabytesOfLogits) {
  std::uint64_t floats[2] = {};
  double seconds[2] = {};
  std::uint64_t steps[2] = {};
  for (const bool stretches : {false, true}) {
    const auto engine = tests::make_engine(kWide, {.threads = 2, .prefill_chunk = 128});
    GenerationLoopOptions options;
    options.head_in_stretches = stretches;
    GenerationLoop loop(*engine, *tokenizer_, nullptr, options);
    std::vector<std::shared_ptr<Recorder>> got;
    const auto begin = GenerationClock::now();
    {
      const tests::HeldLoop all_at_once(loop);
      for (std::uint64_t i = 0; i < 32; ++i) {
        GenerationRequest request = request_of(0);
        request.prompt = tests::random_tokens(20, kVocabulary, i);
        request.max_tokens = 12;
        got.push_back(send(loop, std::move(request)));
      }
    }
    for (const auto& of : got) ASSERT_TRUE(of->wait().finish) << of->error->message;
    seconds[stretches] = std::chrono::duration<double>(GenerationClock::now() - begin).count();
    floats[stretches] = engine->logit_floats();
    steps[stretches] = loop.statistics().steps;
  }
  std::string figures;
  for (const bool stretches : {false, true}) {
    figures +=
        fmt::format("{}: {:.2f} MiB of logits, {} steps, {:.2f} s\n", stretches ? "stretches" : "whole rows",
                    static_cast<double>(floats[stretches]) * 4 / (1 << 20), steps[stretches], seconds[stretches]);
  }
  RecordProperty("figures", figures);
  fmt::print("{}", figures);
  EXPECT_LE(floats[1] * 4, std::uint64_t{2} << 20);
  EXPECT_GE(floats[0] * 4, std::uint64_t{15} << 20);
  EXPECT_LT(steps[1], steps[0]);  // all decode in one step, where they took turns
}

}  // namespace
}  // namespace krait::server
