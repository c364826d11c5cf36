// The loop on real engines: what it says beside others is what a sequence says alone, to the bit; and what goes wrong
// stays with the one it belongs to.
#include "krait/server/generation_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "krait/core/check.h"
#include "krait/runtime/logprobs.h"
#include "krait/runtime/open_model.h"
#include "krait/runtime/prompt.h"
#include "tests/runtime/stored_states.h"
#include "tests/server/generation_testing.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/tiny_models.h"

namespace krait::server {
namespace {

using runtime::FinishReason;
using tests::Alone;
using tests::byte_tokenizer;
using tests::copy_of;
using tests::crowded;
using tests::exact_for;
using tests::expect_alike;
using tests::FaultyModel;
using tests::HeldLoop;
using tests::random_tokens;
using tests::Recorder;
using tests::request_of;
using tests::say_alone;
using tests::send;

constexpr std::int64_t kChunk = tests::kTinyLoopChunk;
constexpr models::SyntheticShape kTiny = tests::kTinyLoopModel;

TEST(GenerationLoop, TwoHundredMixedRequestsOfTheBundledModelSayWhatTheySayAlone) {
  auto opened =
      runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", {}, {.threads = 2, .prefill_chunk = kChunk});
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->open_tokenizer(KRAIT_SOURCE_DIR "/models/tales"));
  runtime::Engine& engine = opened->engine();
  const std::int64_t drawable = runtime::drawable_vocabulary(engine.model().info(), opened->tokenizer());

  constexpr int kRequests = 210;
  std::vector<GenerationRequest> requests;
  std::vector<Alone> expected;
  for (int i = 0; i < kRequests; ++i) {
    requests.push_back(request_of(static_cast<std::uint64_t>(i), drawable, 300, 40));
    if (i % 4 == 0) requests.back().stop_strings = {"the", "a "};
    expected.push_back(say_alone(engine, *opened->tokenizer(), drawable, requests.back()));
  }

  GenerationLoop loop(engine, *opened->tokenizer(), nullptr, crowded());
  std::vector<std::shared_ptr<Recorder>> got(kRequests);
  std::vector<std::thread> senders;
  for (int sender = 0; sender < 3; ++sender) {
    senders.emplace_back([&, sender] {
      for (int i = sender; i < kRequests; i += 3) {
        got[static_cast<std::size_t>(i)] = send(loop, copy_of(requests[static_cast<std::size_t>(i)]));
        // Some come while others are being served.
        if (i % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  for (std::thread& sender : senders) sender.join();
  for (int i = 0; i < kRequests; ++i) {
    const auto at = static_cast<std::size_t>(i);
    expect_alike(*got[at], expected[at], "request " + std::to_string(i));
  }
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));  // the last sink hears of its end before it is counted
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_GT(statistics.parkings, 20U);  // or the test would not say what it claims
  EXPECT_EQ(statistics.submitted, static_cast<std::uint64_t>(kRequests));
  EXPECT_EQ(statistics.waiting + statistics.prefilling + statistics.decoding + statistics.parked, 0);
  EXPECT_LT(statistics.steps, statistics.generated_tokens);  // they did share steps
}

class EveryArchitecture : public testing::TestWithParam<models::SyntheticShape> {};

TEST_P(EveryArchitecture, SaysBesideOthersWhatItSaysAlone) {
  const auto tokenizer = byte_tokenizer();
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk});
  const auto solo = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = kChunk});
  const std::int64_t drawable = runtime::drawable_vocabulary(engine->model().info(), tokenizer.get());
  GenerationLoop loop(*engine, *tokenizer, nullptr, exact_for(GetParam(), crowded()));
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 20; ++i) {
    requests.push_back(request_of(i, drawable, 300, 20));
    got.push_back(send(loop, copy_of(requests.back())));
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, drawable, requests[i]), "request " + std::to_string(i));
  }
}

// States for three, and pages that do not suffice for all that is begun: sequences wait, are set aside and begin anew.
TEST_P(EveryArchitecture, SaysTheSameWhenTheMemoryForStatesIsFull) {
  const auto tokenizer = byte_tokenizer();
  const auto solo = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = kChunk});
  const models::StateLayout& layout = solo->model().state_layout();
  const std::uint64_t memory = std::max<std::uint64_t>(3 * layout.bytes(), 8 * layout.page_bytes());
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk, .state_memory = memory});
  const std::int64_t drawable = runtime::drawable_vocabulary(engine->model().info(), tokenizer.get());
  GenerationLoop loop(*engine, *tokenizer, nullptr, exact_for(GetParam(), crowded()));
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  {
    const HeldLoop all_at_once(loop);
    for (std::uint64_t i = 0; i < 12; ++i) {
      requests.push_back(request_of(i, drawable, 200, 20));
      got.push_back(send(loop, copy_of(requests.back())));
    }
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, drawable, requests[i]), "request " + std::to_string(i));
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, EveryArchitecture, testing::ValuesIn(tests::kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

// Each needs five pages and there are six: sooner or later both are stuck.
TEST(GenerationLoop, OneThatIsStuckWithOthersGivesItsStateUpAndComesToItAgain) {
  const auto* jamba = std::ranges::find(tests::kTinyModels, "tiny-jamba", &models::SyntheticShape::name);
  ASSERT_NE(jamba, std::end(tests::kTinyModels));
  const auto tokenizer = byte_tokenizer();
  const auto solo = tests::make_engine(*jamba, {.threads = 1, .prefill_chunk = kChunk});
  const std::uint64_t memory = 6 * solo->model().state_layout().page_bytes();
  ASSERT_GE(memory, 3 * solo->model().state_layout().bytes());
  const auto engine = tests::make_engine(*jamba, {.threads = 2, .prefill_chunk = kChunk, .state_memory = memory});
  GenerationLoop loop(*engine, *tokenizer, nullptr);
  std::vector<GenerationRequest> requests(2);
  std::vector<std::shared_ptr<Recorder>> got;
  {
    const HeldLoop all_at_once(loop);
    for (GenerationRequest& request : requests) {
      request.prompt = random_tokens(60, jamba->vocabulary, got.size());
      request.max_tokens = 250;
      request.sampler.seed = 5;
      got.push_back(send(loop, copy_of(request)));
    }
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, jamba->vocabulary, requests[i]), "request " + std::to_string(i));
  }
  EXPECT_GT(loop.statistics().restarts, 0U);

  // One that does not fit when it is alone.
  GenerationRequest too_long = copy_of(requests[0]);
  too_long.max_tokens = 1000;
  const auto failed = send(loop, std::move(too_long));
  ASSERT_TRUE(failed->wait().error);
  EXPECT_EQ(failed->error->code, ErrorCode::kResourceExhausted);
  EXPECT_GT(failed->tokens.size(), 300U);
}

TEST(GenerationLoop, BatchInvariantHoldsForWeightsInPlaceAndRoundedStates) {
  models::LoadOptions in_place;
  in_place.in_place = true;
  models::LoadOptions rounded;
  rounded.state_dtype = DType::kBF16;
  for (const models::LoadOptions& options : {in_place, rounded}) {
    auto opened =
        runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", options, {.threads = 2, .prefill_chunk = kChunk});
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->open_tokenizer(KRAIT_SOURCE_DIR "/models/tales"));
    runtime::Engine& engine = opened->engine();
    const std::int64_t drawable = runtime::drawable_vocabulary(engine.model().info(), opened->tokenizer());
    std::vector<GenerationRequest> requests;
    std::vector<Alone> expected;
    for (std::uint64_t i = 0; i < 30; ++i) {
      requests.push_back(request_of(i, drawable, 300, 40));
      expected.push_back(say_alone(engine, *opened->tokenizer(), drawable, requests.back()));
    }
    GenerationLoopOptions loop_options = crowded();
    loop_options.batch_invariant = true;
    GenerationLoop loop(engine, *opened->tokenizer(), nullptr, loop_options);
    std::vector<std::shared_ptr<Recorder>> got;
    for (const GenerationRequest& request : requests) got.push_back(send(loop, copy_of(request)));
    for (std::size_t i = 0; i < got.size(); ++i) expect_alike(*got[i], expected[i], "request " + std::to_string(i));
  }
}

class TinyLoop : public tests::TinyLoopTest {
 protected:
  TinyLoop() : TinyLoopTest(1) {}
};

TEST_F(TinyLoop, CancellingFreesTheSlotWithinAStep) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {.scheduler = {.slots = 1, .most_wait_seconds = 1e9}});
  auto first = std::make_shared<Recorder>();
  std::atomic<GenerationId> id = 0;
  first->on_token = [&] {
    if (first->tokens.size() == 3) loop.cancel(id);
  };
  GenerationRequest endless = greedy(10, 1'000'000);
  {
    const HeldLoop held(loop);  // the id must be known before the third token
    const auto taken = loop.submit(std::move(endless), first);
    ASSERT_TRUE(taken);
    id = *taken;
  }
  const auto second = send(loop, greedy(10, 5));
  ASSERT_TRUE(first->wait().error);
  EXPECT_EQ(first->error->code, ErrorCode::kCancelled);
  EXPECT_EQ(first->tokens.size(), 3U);
  EXPECT_TRUE(second->wait().finish);
  loop.cancel(id);  // again, and of one that never was
  loop.cancel(12345);
  EXPECT_TRUE(loop.drain(std::chrono::seconds(60)));
  EXPECT_EQ(engine->states().states_in_use(), 0U);
  EXPECT_EQ(loop.statistics().cancelled, 1U);
}

TEST_F(TinyLoop, ADeadlineEndsWhatIsNotDone) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  GenerationRequest request = greedy(10, 100'000'000);
  request.deadline = GenerationClock::now() + std::chrono::milliseconds(200);
  const auto got = send(loop, std::move(request));
  ASSERT_TRUE(got->wait().error);
  EXPECT_EQ(got->error->code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(got->tokens.empty());
}

TEST_F(TinyLoop, GoesOnFromStoredStatesAndLeavesThem) {
  auto store = runtime::StateStore::open(*engine, tests::identity_of(*engine));
  ASSERT_TRUE(store);
  GenerationLoop loop(*engine, *tokenizer, store->get(), {});
  const GenerationRequest request = greedy(150, 30);
  const auto first = send(loop, copy_of(request));
  first->wait();
  EXPECT_EQ(first->start->reused_tokens, 0);
  EXPECT_EQ(first->start->lookup, "no stored sequence begins like this");
  const auto again = send(loop, copy_of(request));
  again->wait();
  EXPECT_EQ(again->start->reused_tokens, 150);
  EXPECT_EQ(again->tokens, first->tokens);  // the state behind the prompt is the one that was computed
  EXPECT_EQ(again->finish->reused_tokens, 150);
  // The next turn of a conversation goes on behind the reply, whose last token was never fed.
  GenerationRequest next = copy_of(request);
  next.prompt.insert(next.prompt.end(), first->tokens.begin(), first->tokens.end());
  next.prompt.push_back(65);
  const auto turn = send(loop, std::move(next));
  turn->wait();
  EXPECT_EQ(turn->start->reused_tokens, 150 + 29);
  GenerationRequest without = copy_of(request);
  without.use_store = false;
  EXPECT_EQ(send(loop, std::move(without))->wait().start->reused_tokens, 0);
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_EQ(statistics.lookups.at("hit"), 1U);
  EXPECT_EQ(statistics.lookups.at("partial_hit"), 1U);
  EXPECT_EQ(statistics.lookups.at("unseen"), 1U);
  EXPECT_EQ(statistics.lookups.at("disabled"), 1U);
  EXPECT_EQ(statistics.reused_tokens, 150U + 179U);
  EXPECT_EQ(statistics.prefill_tokens, 150U + 2U + 150U);
}

TEST_F(TinyLoop, AStoreChangesNoBitOfWhatIsSaidBesideOthers) {
  // The same prompts in the same order, once one after another, once all at a time in steps with many others.
  std::vector<GenerationRequest> requests;
  for (std::uint64_t i = 0; i < 40; ++i) {
    GenerationRequest request = greedy(1 + static_cast<std::int64_t>(i * 37 % 600), 25, i);
    request.sampler.temperature = 0.7F;
    requests.push_back(std::move(request));
  }
  const auto solo = tests::make_engine(kTiny, {.threads = 1, .prefill_chunk = kChunk});
  auto solo_store = runtime::StateStore::open(*solo, tests::identity_of(*solo));
  auto store = runtime::StateStore::open(*engine, tests::identity_of(*engine));
  ASSERT_TRUE(solo_store && store);
  GenerationLoop loop(*engine, *tokenizer, store->get(), crowded());
  std::vector<std::shared_ptr<Recorder>> got;
  for (const GenerationRequest& request : requests) got.push_back(send(loop, copy_of(request)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    expect_alike(*got[i], say_alone(*solo, *tokenizer, 256, requests[i], solo_store->get()),
                 "request " + std::to_string(i));
  }
}

TEST_F(TinyLoop, TheStoreGivesWayToSequences) {
  const std::uint64_t bytes = engine->states().bytes_per_state();
  engine = tests::make_engine(kTiny, {.threads = 1, .prefill_chunk = kChunk, .state_memory = 6 * bytes});
  auto store = runtime::StateStore::open(*engine, tests::identity_of(*engine), {.memory_bytes = 5 * bytes});
  ASSERT_TRUE(store);
  GenerationLoop loop(*engine, *tokenizer, store->get(), {.scheduler = {.slots = 4}});
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 30; ++i) got.push_back(send(loop, greedy(200, 20, i)));
  for (const auto& of : got) EXPECT_TRUE(of->wait().finish) << of->error->message;
}

TEST_F(TinyLoop, AStateThatIsReturnedGoesOnWhereItWas) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  const GenerationRequest whole = greedy(100, 40);
  const Alone expected = alone(whole);
  GenerationRequest first = copy_of(whole);
  first.max_tokens = 15;
  first.return_state = true;
  const auto begun = send(loop, std::move(first));
  ASSERT_TRUE(begun->wait().finish);
  const runtime::State& state = begun->finish->state;
  ASSERT_TRUE(state);
  EXPECT_EQ(state.position(), 115);
  ASSERT_FALSE(state.logits().empty());
  // Two go on from it; one with nothing to add.
  std::vector<std::shared_ptr<Recorder>> got;
  for (int i = 0; i < 2; ++i) {
    GenerationRequest second = copy_of(whole);
    second.prompt.clear();
    second.state = state;
    second.max_tokens = 25;
    got.push_back(send(loop, std::move(second)));
  }
  for (const auto& of : got) {
    ASSERT_TRUE(of->wait().finish) << of->error->message;
    std::vector<TokenId> all = begun->tokens;
    all.insert(all.end(), of->tokens.begin(), of->tokens.end());
    EXPECT_EQ(all, expected.tokens);
  }
}

TEST_F(TinyLoop, NoTokensWantedMeansThePromptIsRead) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  GenerationRequest request = greedy(100, 0);
  request.return_state = true;
  const auto got = send(loop, std::move(request));
  ASSERT_TRUE(got->wait().finish);
  EXPECT_TRUE(got->tokens.empty());
  EXPECT_EQ(got->finish->state.position(), 100);
  EXPECT_FALSE(got->finish->state.logits().empty());
}

TEST_F(TinyLoop, LogprobsAreThoseOfTheModel) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  GenerationRequest request = greedy(20, 5);
  request.logprobs = 3;
  const auto got = send(loop, copy_of(request));
  request.sampler.repetition_penalty = 1.0F;
  auto with = std::make_shared<Recorder>();
  ASSERT_TRUE(loop.submit(std::move(request), with));
  ASSERT_TRUE(with->wait().finish);
  for (const GeneratedToken& event : with->events) {
    ASSERT_EQ(event.top.size(), 3U);
    EXPECT_EQ(event.top[0].id, event.id);  // greedy
    EXPECT_EQ(event.top[0].logprob, event.logprob);
    EXPECT_LT(event.logprob, 0);
    EXPECT_GE(event.top[0].logprob, event.top[1].logprob);
    EXPECT_GE(event.top[1].logprob, event.top[2].logprob);
  }
  got->wait();
  EXPECT_TRUE(got->events[0].top.empty());  // nobody asked
}

TEST_F(TinyLoop, LogprobsOfAPromptAreThoseOfEveryTokenOfIt) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, crowded());
  std::vector<std::shared_ptr<Recorder>> got;
  std::vector<GenerationRequest> requests;
  for (const std::int64_t length : {1, 2, 63, 64, 65, 300}) {
    GenerationRequest request = greedy(length, 3, static_cast<std::uint64_t>(length));
    requests.push_back(copy_of(request));
    request.prompt_logprobs = 2;
    got.push_back(send(loop, std::move(request)));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    expect_alike(*got[i], alone(requests[i]), "request " + std::to_string(i));
    const std::vector<PromptToken>& told = *got[i]->prompt_tokens;
    const auto& prompt = requests[i].prompt;
    ASSERT_EQ(told.size(), prompt.size());
    EXPECT_FALSE(told[0].logprob);
    const auto solo = tests::make_engine(kTiny, {.threads = 1, .prefill_chunk = kChunk});
    runtime::Session session(*solo);
    // Cut as the loop cuts: row by row would go through the plain recurrence.
    for (std::size_t first = 0; first < prompt.size(); first += kChunk) {
      const auto part =
          std::span<const TokenId>(prompt).subspan(first, std::min<std::size_t>(kChunk, prompt.size() - first));
      const runtime::StepRequest request{&session, part, 0};
      const runtime::OutputRows rows = solo->step({&request, 1}).logits;
      for (std::size_t row = 0; row < part.size() && first + row + 1 < prompt.size(); ++row) {
        const PromptToken& token = told[first + row + 1];
        const auto expected = runtime::logprobs_of(rows.row(static_cast<std::int64_t>(row)), token.id, 2, 256);
        EXPECT_EQ(token.id, prompt[first + row + 1]);
        EXPECT_EQ(token.logprob, expected.chosen) << first + row;
        ASSERT_EQ(token.top.size(), 2U);
        EXPECT_EQ(token.top[0].id, expected.top[0].first);
        EXPECT_EQ(token.top[1].logprob, expected.top[1].second);
      }
    }
  }
}

TEST_F(TinyLoop, LogprobsOfWhatFollowsAStateBeginWithItsOwn) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  GenerationRequest first = greedy(40, 0);
  first.return_state = true;
  const auto begun = send(loop, std::move(first));
  ASSERT_TRUE(begun->wait().finish);
  GenerationRequest second = greedy(10, 0, 2);
  second.state = begun->finish->state;
  second.prompt_logprobs = 0;
  const TokenId next = second.prompt[0];
  const auto got = send(loop, std::move(second));
  ASSERT_TRUE(got->wait().finish);
  EXPECT_EQ(got->prompt_tokens->at(0).logprob,
            runtime::logprobs_of(begun->finish->state.logits(), next, 0, 256).chosen);
}

TEST_F(TinyLoop, VectorsOfTextsDoNotDependOnWhoElseIsServed) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, crowded());
  const auto vector_of = [](runtime::Engine& of, std::span<const TokenId> tokens, runtime::Pooling pooling) {
    runtime::Session session(of);
    runtime::Pooler pooler(pooling, of);
    while (!tokens.empty()) {
      const auto part = tokens.first(std::min<std::size_t>(kChunk, tokens.size()));
      tokens = tokens.subspan(part.size());
      const runtime::StepRequest request{&session, part, pooler.wanted_from(std::ssize(part), tokens.empty()),
                                         runtime::StepOutput::kHidden};
      pooler.add(of.step({&request, 1}).hidden);
    }
    return pooler.result(session.snapshot());
  };
  std::vector<std::shared_ptr<Recorder>> got, others;
  std::vector<GenerationRequest> requests;
  for (std::uint64_t i = 0; i < 30; ++i) {
    GenerationRequest request = greedy(1 + static_cast<std::int64_t>(i * 37 % 400), 50, i);
    request.pooling = i % 3 == 0   ? runtime::Pooling::last
                      : i % 3 == 1 ? runtime::Pooling::mean
                                   : runtime::Pooling::state;
    requests.push_back(copy_of(request));
    requests.back().pooling = request.pooling;
    got.push_back(send(loop, std::move(request)));
    others.push_back(send(loop, greedy(100, 20, i)));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(got[i]->wait().finish) << got[i]->error->message;
    EXPECT_TRUE(got[i]->tokens.empty());
    const auto solo = tests::make_engine(kTiny, {.threads = 1, .prefill_chunk = kChunk});
    EXPECT_EQ(got[i]->finish->embedding, vector_of(*solo, requests[i].prompt, *requests[i].pooling)) << i;
    EXPECT_TRUE(others[i]->wait().finish);
  }
  GenerationRequest nothing;
  nothing.pooling = runtime::Pooling::mean;
  EXPECT_FALSE(loop.submit(std::move(nothing), std::make_shared<Recorder>()));
}

// Allows even tokens, and five of them.
class EvenTokens final : public TokenMask {
 public:
  void allowed(std::span<std::uint64_t> mask) override { std::ranges::fill(mask, 0x5555555555555555U); }
  bool accept(TokenId id) override {
    ++taken_;
    return id % 2 == 0;
  }
  bool finished() const override { return taken_ == 5; }

 private:
  int taken_ = 0;
};
class BrokenMask final : public TokenMask {
 public:
  void allowed(std::span<std::uint64_t>) override { throw std::runtime_error("the mask broke"); }
  bool accept(TokenId) override { return true; }
  bool finished() const override { return false; }
};

TEST_F(TinyLoop, AMaskDecidesWhatMayCome) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  for (const float temperature : {0.0F, 2.0F}) {
    GenerationRequest request = greedy(20, 100);
    request.sampler.temperature = temperature;
    request.mask = std::make_unique<EvenTokens>();
    const auto got = send(loop, std::move(request));
    ASSERT_TRUE(got->wait().finish) << got->error->message;
    EXPECT_EQ(got->tokens.size(), 5U);
    EXPECT_EQ(got->finish->reason, FinishReason::kStopToken);
    for (const TokenId id : got->tokens) EXPECT_EQ(id % 2, 0);
  }
}

TEST_F(TinyLoop, WhatASequenceBringsAlongFailsThatSequenceOnly) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  const auto good = send(loop, greedy(50, 200));
  GenerationRequest broken = greedy(50, 20);
  broken.mask = std::make_unique<BrokenMask>();
  const auto bad = send(loop, std::move(broken));
  auto throwing = std::make_shared<Recorder>();
  throwing->on_token = [] { throw std::runtime_error("the sink broke"); };
  ASSERT_TRUE(loop.submit(greedy(50, 20), throwing));
  ASSERT_TRUE(bad->wait().error);
  EXPECT_EQ(bad->error->message, "the mask broke");
  EXPECT_EQ(bad->error->code, ErrorCode::kInternal);
  EXPECT_TRUE(throwing->wait().error);
  ASSERT_TRUE(good->wait().finish);
  EXPECT_EQ(good->tokens, alone(greedy(50, 200)).tokens);
}

TEST_F(TinyLoop, AStepThatThrowsFailsTheSequenceWhoseFaultItIs) {
  auto model = models::load_model(models::make_synthetic(kTiny, DType::kF32, 7));
  ASSERT_TRUE(model);
  runtime::Engine faulty(std::make_unique<FaultyModel>(*std::move(model)),
                         {.threads = 1, .prefill_chunk = kChunk, .state_memory = std::uint64_t{64} << 20});
  GenerationLoop loop(faulty, *tokenizer, nullptr, {});
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 10; ++i) {
    GenerationRequest request = greedy(150, 60, i);
    request.sampler.logit_bias = {{FaultyModel::kPoison, -1e9F}};
    std::ranges::replace(request.prompt, FaultyModel::kPoison, 7);
    if (i == 5) request.prompt[140] = FaultyModel::kPoison;
    requests.push_back(copy_of(request));
    got.push_back(send(loop, std::move(request)));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    got[i]->wait();
    if (i == 5) {
      ASSERT_TRUE(got[i]->error);
      EXPECT_NE(got[i]->error->message.find("the model broke"), std::string::npos);
      EXPECT_EQ(got[i]->error->code, ErrorCode::kInternal);
    } else {
      expect_alike(*got[i], alone(requests[i]), "request " + std::to_string(i));
    }
  }
  EXPECT_EQ(loop.statistics().failed, 1U);
}

TEST_F(TinyLoop, RefusesWhatCannotBeAndWhoWouldWaitTooLong) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {.scheduler = {.slots = 1, .most_waiting = 2}});
  const auto refusal = [&](GenerationRequest request) {
    const auto id = loop.submit(std::move(request), std::make_shared<Recorder>());
    return id ? GenerationRefusal{} : id.error();
  };
  GenerationRequest outside = greedy(5, 5);
  outside.prompt[2] = 256;
  EXPECT_EQ(refusal(std::move(outside)).error.message,
            "[request] token id 256 is outside the vocabulary: ids of this model are 0 … 255");
  EXPECT_EQ(refusal(GenerationRequest{}).error.code, ErrorCode::kInvalidArgument);
  GenerationRequest cold = greedy(5, 5);
  cold.sampler.temperature = -1;
  EXPECT_EQ(refusal(std::move(cold)).error.code, ErrorCode::kInvalidArgument);

  std::vector<std::shared_ptr<Recorder>> taken;
  GenerationRefusal busy;
  for (int i = 0; i < 10 && busy.error.message.empty(); ++i) {
    auto recorder = std::make_shared<Recorder>();
    const auto id = loop.submit(greedy(10, 1'000'000), recorder);
    if (id) {
      taken.push_back(recorder);
    } else {
      busy = id.error();
    }
  }
  EXPECT_EQ(busy.error.code, ErrorCode::kResourceExhausted);
  EXPECT_GE(busy.retry_after_seconds, 1);
  EXPECT_LE(taken.size(), 3U);
  loop.stop();
  for (const auto& of : taken) {
    ASSERT_TRUE(of->wait().error);
    EXPECT_EQ(of->error->code, ErrorCode::kCancelled);
  }
  EXPECT_EQ(refusal(greedy(5, 5)).error.code, ErrorCode::kCancelled);
}

TEST_F(TinyLoop, DrainingFinishesWhatThereIsAndTakesNoMore) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 5; ++i) got.push_back(send(loop, greedy(50, 50, i)));
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  for (const auto& of : got) EXPECT_TRUE(of->wait().finish);
  EXPECT_FALSE(loop.submit(greedy(5, 5), std::make_shared<Recorder>()));
}

TEST_F(TinyLoop, CountsWhatHappens) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  GenerationRequest mine = greedy(100, 20, 1);
  mine.key = "mine";
  GenerationRequest yours = greedy(40, 10, 2);
  yours.key = "yours";
  send(loop, std::move(mine))->wait();
  send(loop, std::move(yours))->wait();
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_EQ(statistics.generated_tokens, 30U);
  EXPECT_EQ(statistics.prefill_tokens, 140U);
  EXPECT_EQ(statistics.finished.at("length"), 2U);
  EXPECT_EQ(statistics.keys.at("mine").generated_tokens, 20U);
  EXPECT_EQ(statistics.keys.at("mine").prompt_tokens, 100U);
  EXPECT_EQ(statistics.keys.at("yours").requests, 1U);
  EXPECT_EQ(statistics.first_token_seconds.count(), 2U);
  EXPECT_EQ(statistics.token_seconds.count(), 28U);
  EXPECT_EQ(statistics.queue_seconds.count(), 2U);
  EXPECT_EQ(statistics.step_seconds.count(), statistics.steps);
}

}  // namespace
}  // namespace krait::server
