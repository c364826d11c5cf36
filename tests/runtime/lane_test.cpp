// Two lanes of an engine that step at the same time compute what one lane does with one batch after the other, to the
// bit, for every architecture: also from states and pages that sequences of both share until they write. Run under the
// tsan preset as well.
#include "krait/runtime/lane.h"

#include <gtest/gtest.h>

#include <array>
#include <barrier>
#include <functional>
#include <thread>
#include <vector>

#include "krait/core/cores.h"
#include "krait/models/operator_profile.h"
#include "tests/runtime/stored_states.h"
#include "tests/support/tiny_models.h"

namespace krait::runtime {
namespace {

constexpr std::int64_t kChunk = 128;
constexpr int kSequences = 3;
constexpr int kRounds = 12;

// The bits of all that a batch of sequences computes.
struct Bits {
  std::vector<std::vector<float>> rows;
  std::vector<std::vector<std::byte>> states;
  bool operator==(const Bits&) const = default;
};

// Sequences that go on from one state, step by step in one batch: tokens one by one, or pieces of 64 of a prompt and a
// decode beside them. What they are fed depends on the seed alone. `ready` is called before each step.
Bits run(
    Lane& lane, Engine& engine, const State& start, bool reads, std::uint64_t seed,
    const std::function<void()>& ready = [] {}) {
  const std::int64_t vocabulary = engine.model().info().vocabulary;
  std::vector<Session> sessions;
  for (int i = 0; i < kSequences; ++i) sessions.emplace_back(engine, start);
  Random random(seed);
  Bits bits;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<StepRequest> requests;
    for (int i = 0; i < kSequences; ++i) {
      const std::int64_t count = reads && i > 0 ? 64 : 1;
      tokens.push_back(tests::random_tokens(count, vocabulary, random.next()));
    }
    for (int i = 0; i < kSequences; ++i) {
      const auto& part = tokens[static_cast<std::size_t>(i)];
      requests.push_back({&sessions[static_cast<std::size_t>(i)], part, std::ssize(part) - 1,
                          i == 2 ? StepOutput::kHidden : StepOutput::kLogits});
    }
    ready();
    const StepRows rows = lane.step(requests);
    const OutputRows head = lane.logits_of(rows.hidden);
    for (const OutputRows& of : {rows.logits, rows.hidden, head}) {
      for (std::int64_t row = 0; row < of.rows; ++row) bits.rows.emplace_back(of.row(row).begin(), of.row(row).end());
    }
  }
  for (const Session& session : sessions) bits.states.push_back(tests::content_of(engine, session.snapshot()));
  return bits;
}

class TwoLanes : public testing::TestWithParam<models::SyntheticShape> {};

TEST_P(TwoLanes, ComputeWhatOneDoes) {
  const auto engine = tests::make_engine(GetParam(), {.threads = 4, .prefill_chunk = kChunk});
  const auto solo = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = kChunk});
  // In the middle of a page.
  const auto past = tests::random_tokens(70, GetParam().vocabulary, 1);
  const State there = tests::state_behind(*engine, past), here = tests::state_behind(*solo, past);
  const auto first = engine->make_lane(0, 3), second = engine->make_lane(3, 1);
  EXPECT_EQ(first->threads(), 3);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Bits reading = run(solo->whole(), *solo, here, true, 2 * seed);
    const Bits decoding = run(solo->whole(), *solo, here, false, 2 * seed + 1);
    // Step by step at the same time, so that blocks which both share are copied at once; then as it comes.
    std::barrier together(2);
    const auto ready = [&] {
      if (seed % 2 == 0) together.arrive_and_wait();
    };
    Bits read, decoded;
    std::thread other([&] { read = run(*first, *engine, there, true, 2 * seed, ready); });
    decoded = run(*second, *engine, there, false, 2 * seed + 1, ready);
    other.join();
    EXPECT_EQ(read, reading) << "seed " << seed;
    EXPECT_EQ(decoded, decoding) << "seed " << seed;
  }
  // What they shared is as it was.
  EXPECT_EQ(tests::content_of(*engine, there), tests::content_of(*solo, here));
}

INSTANTIATE_TEST_SUITE_P(Architectures, TwoLanes, testing::ValuesIn(tests::kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

// A sequence may go from one lane to the other between any two steps.
TEST(Lane, ASequenceGoesFromLaneToLane) {
  const auto engine = tests::make_engine(tests::kStoredModel, {.threads = 2, .prefill_chunk = kChunk});
  const auto first = engine->make_lane(0, 1), second = engine->make_lane(1, 1);
  const auto tokens = tests::random_tokens(40, tests::kStoredModel.vocabulary, 3);
  Session still(*engine), moving(*engine);
  const std::array<Lane*, 3> lanes = {first.get(), second.get(), &engine->whole()};
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const StepRequest one{&still, std::span(tokens).subspan(i, 1), 0}, two{&moving, std::span(tokens).subspan(i, 1), 0};
    const auto expected = engine->step({&one, 1}).logits.row(0);
    const std::vector<float> kept(expected.begin(), expected.end());
    const auto got = lanes[i % 3]->step({&two, 1}).logits.row(0);
    ASSERT_EQ(std::vector<float>(got.begin(), got.end()), kept) << i;
  }
}

TEST(Lane, IsOnCoresThatTheEngineHas) {
  const auto engine = tests::make_engine(tests::kStoredModel, {.threads = 3});
  EXPECT_EQ(engine->cores(), 3);
  for (const auto& [first, count] : {std::pair(-1, 1), std::pair(0, 0), std::pair(0, 4), std::pair(3, 1)}) {
    EXPECT_THROW(engine->make_lane(first, count), UserError) << first << ' ' << count;
  }
  // Where the engine has all cores of the process, groups have theirs and nobody else's.
  const std::vector<int> cores = by_place(usable_cores());
  const auto all = tests::make_engine(tests::kStoredModel, {.threads = static_cast<int>(cores.size())});
  if (cores.size() < 2) GTEST_SKIP() << "one core";
  const auto one = all->make_lane(0, 1), rest = all->make_lane(1, static_cast<int>(cores.size()) - 1);
  EXPECT_EQ(std::vector<int>(one->cores().begin(), one->cores().end()), std::vector<int>{cores[0]});
  EXPECT_EQ(std::vector<int>(rest->cores().begin(), rest->cores().end()),
            std::vector<int>(cores.begin() + 1, cores.end()));
  // Who enters keeps to them, and leaves by entering another.
  std::thread([&] {
    one->enter();
    EXPECT_EQ(usable_cores(), std::vector<int>{cores[0]});
    all->whole().enter();
    EXPECT_EQ(usable_cores().size(), cores.size());
  }).join();
}

TEST(Lane, ProfilesArePerLane) {
  const auto engine = tests::make_engine(tests::kStoredModel, {.threads = 2});
  const auto lane = engine->make_lane(0, 1);
  models::OperatorProfile whole, part;
  engine->set_profile(&whole);
  lane->set_profile(&part);
  const auto tokens = tests::random_tokens(3, tests::kStoredModel.vocabulary, 3);
  Session session(*engine);
  const StepRequest request{&session, tokens, 2};
  lane->step({&request, 1});
  EXPECT_TRUE(whole.costs().empty());
  EXPECT_FALSE(part.costs().empty());
}

}  // namespace
}  // namespace krait::runtime
