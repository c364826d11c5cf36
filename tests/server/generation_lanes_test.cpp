// The loop with prompts and decodes on cores of their own: what a sequence says is what it says alone, to the bit, also
// while the groups change under it; and what goes wrong in one lane stays with the one it belongs to. Run under the
// tsan preset as well.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "krait/runtime/open_model.h"
#include "krait/runtime/prompt.h"
#include "tests/server/generation_testing.h"
#include "tests/support/tiny_models.h"

namespace krait::server {
namespace {

using tests::Alone;
using tests::copy_of;
using tests::crowded;
using tests::exact_for;
using tests::expect_alike;
using tests::FaultyModel;
using tests::HeldLoop;
using tests::ParkingFolder;
using tests::Recorder;
using tests::request_of;
using tests::say_alone;
using tests::send;

constexpr std::int64_t kChunk = tests::kTinyLoopChunk;
constexpr CoreGroups kApart{CoreGroups::Choice::apart, 1, 1};
constexpr CoreGroups kAuto{CoreGroups::Choice::automatic, 1, 1};

GenerationLoopOptions apart(GenerationLoopOptions options) {
  options.core_groups = kApart;
  return options;
}

const GenerationStatistics::LaneUsage& lane(const GenerationStatistics& statistics, LaneRole role) {
  return statistics.lanes[index_of(role)];
}

class LanesOfEveryArchitecture : public testing::TestWithParam<models::SyntheticShape> {
 protected:
  LanesOfEveryArchitecture()
      : tokenizer(tests::byte_tokenizer()),
        solo(tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = kChunk})) {}
  // So many requests, all of which are to say what they say alone.
  void expect_the_same(GenerationLoop& loop, std::uint64_t count, std::int64_t longest_prompt,
                       std::int64_t longest_reply) {
    const std::int64_t drawable = runtime::drawable_vocabulary(solo->model().info(), tokenizer.get());
    std::vector<GenerationRequest> requests;
    std::vector<std::shared_ptr<Recorder>> got;
    {
      const HeldLoop all_at_once(loop);
      for (std::uint64_t i = 0; i < count; ++i) {
        requests.push_back(request_of(i, drawable, longest_prompt, longest_reply));
        got.push_back(send(loop, copy_of(requests.back())));
      }
    }
    for (std::size_t i = 0; i < requests.size(); ++i) {
      expect_alike(*got[i], say_alone(*solo, *tokenizer, drawable, requests[i]), "request " + std::to_string(i));
    }
    EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  }

  std::unique_ptr<formats::Tokenizer> tokenizer;
  std::unique_ptr<runtime::Engine> solo;
};

TEST_P(LanesOfEveryArchitecture, SayWhatASequenceSaysAlone) {
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk});
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart(exact_for(GetParam(), crowded())));
  expect_the_same(loop, 20, 300, 20);
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_TRUE(statistics.apart);
  EXPECT_EQ(lane(statistics, LaneRole::mixed).steps, 0U);
  EXPECT_GT(lane(statistics, LaneRole::prompts).steps, 0U);
  EXPECT_GT(lane(statistics, LaneRole::decodes).steps, 0U);
  EXPECT_EQ(engine->states().states_in_use(), 0U);
}

TEST_P(LanesOfEveryArchitecture, SayTheSameWhenTheMemoryForStatesIsFull) {
  const models::StateLayout& layout = solo->model().state_layout();
  const std::uint64_t memory = std::max<std::uint64_t>(3 * layout.bytes(), 8 * layout.page_bytes());
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk, .state_memory = memory});
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart(exact_for(GetParam(), crowded())));
  expect_the_same(loop, 12, 200, 20);
}

TEST_P(LanesOfEveryArchitecture, SayTheSameFromTheDisk) {
  const models::StateLayout& layout = solo->model().state_layout();
  const std::uint64_t memory = std::max<std::uint64_t>(4 * layout.bytes(), 12 * layout.page_bytes());
  const auto engine = tests::make_engine(GetParam(), {.threads = 2, .prefill_chunk = kChunk, .state_memory = memory});
  const ParkingFolder folder("lanes-" + std::string(GetParam().name));
  const auto parking = folder.open(*engine, tests::identity_of(*engine));
  GenerationLoopOptions options = apart(exact_for(GetParam(), crowded()));
  options.parking = parking.get();
  GenerationLoop loop(*engine, *tokenizer, nullptr, options);
  expect_the_same(loop, 14, 150, 30);
  EXPECT_EQ(parking->totals().bytes, 0U);
}

INSTANTIATE_TEST_SUITE_P(Architectures, LanesOfEveryArchitecture, testing::ValuesIn(tests::kTinyModels),
                         [](const auto& info) {
                           std::string name(info.param.name);
                           std::erase(name, '-');
                           return name;
                         });

TEST(GenerationLanes, ChangeUnderTwoHundredRequestsThatSayWhatTheySayAlone) {
  auto opened =
      runtime::OpenedModel::open(KRAIT_SOURCE_DIR "/models/tales", {}, {.threads = 2, .prefill_chunk = kChunk});
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->open_tokenizer(KRAIT_SOURCE_DIR "/models/tales"));
  runtime::Engine& engine = opened->engine();
  const std::int64_t drawable = runtime::drawable_vocabulary(engine.model().info(), opened->tokenizer());
  constexpr std::size_t kRequests = 210;
  std::vector<GenerationRequest> requests;
  std::vector<Alone> expected;
  for (std::size_t i = 0; i < kRequests; ++i) {
    requests.push_back(request_of(i, drawable, 300, 40));
    if (i % 4 == 0) requests.back().stop_strings = {"the", "a "};
    expected.push_back(say_alone(engine, *opened->tokenizer(), drawable, requests.back()));
  }
  GenerationLoop loop(engine, *opened->tokenizer(), nullptr, crowded());
  std::atomic<bool> done = false;
  std::thread changes([&] {
    for (int i = 0; !done; ++i) {
      const CoreGroups groups = i % 4 == 0 ? kAuto : i % 2 == 1 ? kApart : CoreGroups{};
      EXPECT_TRUE(loop.set_core_groups(groups));
      std::this_thread::sleep_for(std::chrono::milliseconds(i % 3 == 0 ? 15 : 3));
    }
  });
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::size_t i = 0; i < kRequests; ++i) {
    got.push_back(send(loop, copy_of(requests[i])));
    if (i % 30 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (std::size_t i = 0; i < kRequests; ++i) expect_alike(*got[i], expected[i], "request " + std::to_string(i));
  done = true;
  changes.join();
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_GT(statistics.group_switches, 10U);  // or the test would not say what it claims
  for (const LaneRole role : {LaneRole::mixed, LaneRole::prompts, LaneRole::decodes}) {
    EXPECT_GT(lane(statistics, role).steps, 5U) << to_string(role);
  }
  EXPECT_EQ(statistics.submitted, kRequests);
  EXPECT_EQ(statistics.failed + statistics.cancelled, 0U);
  EXPECT_EQ(statistics.waiting + statistics.prefilling + statistics.decoding + statistics.parked, 0);
  EXPECT_EQ(engine.states().states_in_use(), 0U);
}

class TinyLanes : public tests::TinyLoopTest {
 protected:
  TinyLanes() : TinyLoopTest(2) {}
  // Within a key a prompt is read before the next one.
  static GenerationRequest greedy(std::int64_t prompt, std::int64_t tokens, std::uint64_t key = 1) {
    GenerationRequest request = TinyLoopTest::greedy(prompt, tokens, key);
    request.key = std::to_string(key);
    return request;
  }
};

TEST_F(TinyLanes, AreThoseThatTheEngineHasCoresFor) {
  EXPECT_THROW(GenerationLoop(*engine, *tokenizer, nullptr, {.core_groups = {CoreGroups::Choice::apart, 2, 1}}),
               UserError);
  GenerationLoop loop(*engine, *tokenizer, nullptr, {});
  const auto set = loop.set_core_groups({CoreGroups::Choice::apart, 2, 1});
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(loop.statistics().core_groups, CoreGroups{});
  ASSERT_TRUE(loop.set_core_groups(kApart));
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_EQ(statistics.core_groups, kApart);
  EXPECT_TRUE(statistics.apart);
  EXPECT_EQ(lane(statistics, LaneRole::prompts).cores, 1);
  EXPECT_EQ(lane(statistics, LaneRole::decodes).cores, 1);
  EXPECT_EQ(lane(statistics, LaneRole::mixed).cores, 2);
}

TEST_F(TinyLanes, CountWhatEachDid) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  send(loop, greedy(100, 20, 1))->wait();
  send(loop, greedy(40, 10, 2))->wait();
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_EQ(statistics.generated_tokens, 30U);
  EXPECT_EQ(statistics.prefill_tokens, 140U);
  // The first token of each is drawn behind its prompt.
  EXPECT_EQ(lane(statistics, LaneRole::prompts).steps, 2U);
  EXPECT_EQ(lane(statistics, LaneRole::decodes).steps, 28U);
  EXPECT_EQ(lane(statistics, LaneRole::decodes).sequences, 28U);
  EXPECT_GT(lane(statistics, LaneRole::decodes).seconds, 0);
  EXPECT_EQ(statistics.steps, 30U);
  EXPECT_EQ(statistics.step_seconds.count(), 30U);
}

TEST_F(TinyLanes, AWriterDoesNotWaitForAPromptToBeRead) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  const auto reading = send(loop, greedy(200'000, 1));
  // It comes later, and is done while the other one's chunks go on: prompts of keys take turns.
  const GenerationRequest short_one = greedy(20, 50, 2);
  const auto writing = send(loop, copy_of(short_one));
  expect_alike(*writing, alone(short_one), "the writer");
  EXPECT_EQ(reading->ends(), 0);
  EXPECT_TRUE(reading->wait().finish);
}

TEST_F(TinyLanes, CancellingWorksInEither) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  auto reading = std::make_shared<Recorder>();
  auto writing = std::make_shared<Recorder>();
  const auto reads = loop.submit(greedy(2'000'000, 1), reading);
  const auto writes = loop.submit(greedy(20, 1'000'000, 2), writing);
  ASSERT_TRUE(reads && writes);
  const auto good = send(loop, greedy(100, 300, 3));
  const auto end = GenerationClock::now() + std::chrono::minutes(1);
  const auto both = [&] {
    const GenerationStatistics now = loop.statistics();
    return lane(now, LaneRole::prompts).steps > 5 && lane(now, LaneRole::decodes).steps > 5;
  };
  while (!both() && GenerationClock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(both());
  loop.cancel(*reads);
  ASSERT_TRUE(reading->wait().error);
  EXPECT_EQ(reading->error->code, ErrorCode::kCancelled);
  EXPECT_EQ(writing->ends(), 0);
  loop.cancel(*writes);
  ASSERT_TRUE(writing->wait().error);
  EXPECT_EQ(writing->error->code, ErrorCode::kCancelled);
  expect_alike(*good, alone(greedy(100, 300, 3)), "the one that goes on");
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  EXPECT_EQ(loop.statistics().cancelled, 2U);
  EXPECT_EQ(reading->ends() + writing->ends(), 2);
  EXPECT_EQ(engine->states().states_in_use(), 0U);
}

TEST_F(TinyLanes, ADeadlineHoldsInEither) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  std::vector<std::shared_ptr<Recorder>> got;
  for (const bool reads : {true, false}) {
    GenerationRequest request = reads ? greedy(2'000'000, 1) : greedy(20, 100'000'000, 2);
    request.deadline = GenerationClock::now() + std::chrono::milliseconds(300);
    got.push_back(send(loop, std::move(request)));
  }
  for (const auto& of : got) {
    ASSERT_TRUE(of->wait().error);
    EXPECT_EQ(of->error->code, ErrorCode::kResourceExhausted);
  }
}

// A step that throws, of prompts and of decodes, beside a lane that goes on.
TEST_F(TinyLanes, AStepThatThrowsFailsTheSequenceWhoseFaultItIs) {
  auto model = models::load_model(models::make_synthetic(tests::kTinyLoopModel, DType::kF32, 7));
  ASSERT_TRUE(model);
  runtime::Engine faulty(std::make_unique<FaultyModel>(*std::move(model)),
                         {.threads = 2, .prefill_chunk = kChunk, .state_memory = std::uint64_t{64} << 20});
  GenerationLoop loop(faulty, *tokenizer, nullptr, apart({}));
  std::vector<GenerationRequest> requests;
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 12; ++i) {
    GenerationRequest request = greedy(150, 60, i);
    // One reads the token that breaks the model, another one draws it.
    request.sampler.logit_bias = {{FaultyModel::kPoison, i == 8 ? 1e9F : -1e9F}};
    std::ranges::replace(request.prompt, FaultyModel::kPoison, 7);
    if (i == 5) request.prompt[140] = FaultyModel::kPoison;
    requests.push_back(copy_of(request));
    got.push_back(send(loop, std::move(request)));
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    got[i]->wait();
    if (i == 5 || i == 8) {
      ASSERT_TRUE(got[i]->error) << i;
      EXPECT_NE(got[i]->error->message.find("the model broke"), std::string::npos);
      EXPECT_EQ(got[i]->tokens.size(), i == 5 ? 0U : 1U);
    } else {
      expect_alike(*got[i], alone(requests[i]), "request " + std::to_string(i));
    }
  }
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  EXPECT_EQ(loop.statistics().failed, 2U);
  EXPECT_EQ(faulty.states().states_in_use(), 0U);
}

// Sinks of one answer share what they write to.
TEST_F(TinyLanes, SinksAreCalledOneAtATime) {
  std::atomic<int> inside = 0, crowds = 0;
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  std::vector<std::shared_ptr<Recorder>> got;
  for (std::uint64_t i = 0; i < 30; ++i) {
    auto recorder = std::make_shared<Recorder>();
    recorder->on_token = [&] {
      if (++inside > 1) ++crowds;
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      --inside;
    };
    ASSERT_TRUE(loop.submit(greedy(300, 10, i), recorder));
    got.push_back(std::move(recorder));
  }
  for (const auto& of : got) EXPECT_TRUE(of->wait().finish);
  EXPECT_EQ(crowds, 0);
}

TEST_F(TinyLanes, StoppingEndsBoth) {
  for (const bool from_a_sink : {false, true}) {
    GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
    std::vector<std::shared_ptr<Recorder>> got;
    got.push_back(send(loop, greedy(2'000'000, 1)));
    auto writing = std::make_shared<Recorder>();
    std::atomic<bool> wrote = false;
    writing->on_token = [&] {
      if (from_a_sink) loop.stop();
      wrote = true;
      wrote.notify_all();
    };
    ASSERT_TRUE(loop.submit(greedy(20, 1'000'000, 2), writing));
    got.push_back(writing);
    wrote.wait(false);
    if (!from_a_sink) loop.stop();
    for (const auto& of : got) {
      ASSERT_TRUE(of->wait().error);
      EXPECT_EQ(of->error->code, ErrorCode::kCancelled);
    }
    EXPECT_FALSE(loop.submit(greedy(5, 5), std::make_shared<Recorder>()));
  }
  EXPECT_EQ(engine->states().states_in_use(), 0U);
}

TEST_F(TinyLanes, WhatIsLeftOfAPromptIsReadInTheModeThatComes) {
  GenerationLoop loop(*engine, *tokenizer, nullptr, apart({}));
  const GenerationRequest request = greedy(30'000, 30);
  const auto got = send(loop, copy_of(request));
  const auto end = GenerationClock::now() + std::chrono::minutes(1);
  while (loop.statistics().prefill_tokens < 1000 && GenerationClock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(loop.set_core_groups({}));
  expect_alike(*got, alone(request), "the prompt");
  EXPECT_TRUE(loop.drain(std::chrono::minutes(1)));
  const GenerationStatistics statistics = loop.statistics();
  EXPECT_GT(lane(statistics, LaneRole::prompts).steps, 0U);
  EXPECT_GT(lane(statistics, LaneRole::mixed).steps, 29U);  // the reply at least
  EXPECT_EQ(statistics.prefill_tokens, 30'000U);
  EXPECT_EQ(statistics.restarts, 0U);
}

}  // namespace
}  // namespace krait::server
