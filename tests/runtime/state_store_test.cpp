#include "krait/runtime/state_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "krait/runtime/state_saving.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/runtime/stored_states.h"

namespace krait::runtime {
namespace {

using tests::content_of;
using tests::expect_error;
using tests::identity_of;
using tests::kStoredModel;
using tests::random_tokens;
using tests::state_behind;
using tests::TemporaryFolder;

using Tokens = std::vector<TokenId>;

class StateStoreTest : public testing::Test {
 protected:
  std::unique_ptr<StateStore> open(const StateStoreOptions& options, std::uint64_t model = 1) {
    auto store = StateStore::open(*engine_, identity_of(*engine_, model), options);
    if (!store) throw std::runtime_error(store.error().message);
    return *std::move(store);
  }
  StateStoreOptions on_disk() const { return {.folder = folder_.path()}; }
  bool admit(StateStore& store, const Tokens& tokens, StateKind kind = StateKind::prompt) {
    return store.admit(tokens, state_behind(*engine_, tokens), kind);
  }
  Tokens tokens(std::int64_t count, std::uint64_t seed) const {
    return random_tokens(count, kStoredModel.vocabulary, seed);
  }
  void expect_found(StateStore& store, const Tokens& all) {
    const auto found = store.find(all);
    ASSERT_TRUE(found.state) << to_string(found.lookup);
    EXPECT_EQ(found.lookup.reason, LookupReason::hit);
    EXPECT_EQ(content_of(*engine_, found.state), content_of(*engine_, state_behind(*engine_, all)));
  }
  // What the budgets count for one state.
  std::uint64_t bytes_of_one(std::int64_t count) {
    const auto store = open({});
    admit(*store, tokens(count, 999));
    return store->statistics().memory_bytes;
  }
  static std::uint64_t count(const StateStore& store, LookupReason reason) {
    return store.statistics().lookups[static_cast<std::size_t>(reason)];
  }

  TemporaryFolder folder_;
  std::unique_ptr<Engine> engine_ = tests::make_engine(kStoredModel);
};

Tokens plus(Tokens tokens, const Tokens& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

TEST_F(StateStoreTest, SaysWhyALookupEndedAsItDid) {
  const auto store = open({});
  const Tokens first = tokens(40, 1);
  EXPECT_EQ(store->find(first).lookup.reason, LookupReason::unseen);
  ASSERT_TRUE(admit(*store, first));
  expect_found(*store, first);
  const auto partial = store->find(plus(first, tokens(5, 2)));
  EXPECT_EQ(partial.lookup.reason, LookupReason::partial_hit);
  EXPECT_EQ(partial.lookup.position, 40);
  const auto branch = store->find(plus(Tokens(first.begin(), first.begin() + 30), tokens(9, 3)));
  EXPECT_FALSE(branch.state);
  EXPECT_EQ(branch.lookup.reason, LookupReason::no_state);
  EXPECT_EQ(branch.lookup.agreed, 30);
  EXPECT_FALSE(store->find(first, 39).state) << "a state behind more tokens than may be used";
  EXPECT_TRUE(store->forget(first));
  EXPECT_FALSE(store->forget(first));
  EXPECT_EQ(store->find(first).lookup.reason, LookupReason::unseen);

  const StateStoreStatistics statistics = store->statistics();
  EXPECT_EQ(count(*store, LookupReason::hit), 1U);
  EXPECT_EQ(count(*store, LookupReason::partial_hit), 1U);
  EXPECT_EQ(count(*store, LookupReason::unseen), 2U);
  EXPECT_EQ(count(*store, LookupReason::no_state), 2U);
  EXPECT_EQ(statistics.tokens_found, 80U);
  EXPECT_EQ(statistics.tokens_asked, 40U + 40 + 45 + 39 + 40 + 40);
  EXPECT_EQ(statistics.states, 0U);
  EXPECT_EQ(statistics.memory_bytes, 0U);
}

TEST_F(StateStoreTest, MemoryHasABudgetAndEvictedIsSaid) {
  const std::uint64_t one = bytes_of_one(40);
  const auto store = open({.memory_bytes = 3 * one});
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    ASSERT_TRUE(admit(*store, tokens(40, seed)));
    store->find(tokens(3, 100 + seed));  // time goes by
  }
  const auto gone = store->find(tokens(40, 0));
  EXPECT_FALSE(gone.state);
  EXPECT_EQ(gone.lookup.reason, LookupReason::evicted);
  EXPECT_EQ(gone.lookup.evicted_position, 40);
  expect_found(*store, tokens(40, 4));
  const StateStoreStatistics statistics = store->statistics();
  EXPECT_EQ(statistics.states, 3U);
  EXPECT_LE(statistics.memory_bytes, 3 * one);
  EXPECT_EQ(statistics.left_memory, 2U);
  EXPECT_EQ(statistics.lost, 2U);
  // Nobody else holds them, so the engine has its memory back.
  EXPECT_EQ(engine_->states().states_in_use(), 3U);
  EXPECT_TRUE(store->give_back(1));
  EXPECT_EQ(engine_->states().states_in_use(), 2U);
}

TEST_F(StateStoreTest, MoreMemoryThanTheEngineHasIsRefused) {
  const std::uint64_t all = engine_->states().capacity() * engine_->states().bytes_per_state();
  expect_error(StateStore::open(*engine_, identity_of(*engine_), {.memory_bytes = all}), ErrorCode::kInvalidArgument,
               {std::to_string(all)});
}

TEST_F(StateStoreTest, PinnedStatesStay) {
  const std::uint64_t one = bytes_of_one(40);
  const auto store = open({.memory_bytes = 2 * one});
  ASSERT_TRUE(admit(*store, tokens(40, 0)));
  EXPECT_TRUE(store->pin(tokens(40, 0)));
  EXPECT_FALSE(store->pin(tokens(40, 77)));
  for (std::uint64_t seed = 1; seed < 5; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
  expect_found(*store, tokens(40, 0));
  EXPECT_TRUE(store->pin(tokens(40, 4)));
  EXPECT_FALSE(admit(*store, tokens(40, 5))) << "only pinned ones are left";
  EXPECT_EQ(store->statistics().refused, 1U);
  EXPECT_FALSE(store->give_back(1));
  EXPECT_TRUE(store->unpin(tokens(40, 0)));
  EXPECT_FALSE(store->unpin(tokens(40, 0)));
  EXPECT_TRUE(admit(*store, tokens(40, 5)));
  EXPECT_EQ(store->find(tokens(40, 0)).lookup.reason, LookupReason::evicted);
}

TEST_F(StateStoreTest, ComesBackFromTheDiskAfterARestart) {
  for (const bool first : {true, false}) {
    const auto store = open(on_disk());
    if (first) {
      for (std::uint64_t seed = 0; seed < 6; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
      ASSERT_TRUE(store->flush());
      EXPECT_EQ(store->statistics().spilled, 6U);
      EXPECT_EQ(store->statistics().waiting, 0U);
      continue;
    }
    EXPECT_EQ(store->statistics().states, 6U);
    EXPECT_EQ(store->statistics().memory_bytes, 0U);
    for (std::uint64_t seed = 0; seed < 6; ++seed) expect_found(*store, tokens(40, seed));
    EXPECT_EQ(store->statistics().found_on_disk, 6U);
    for (std::uint64_t seed = 0; seed < 6; ++seed) expect_found(*store, tokens(40, seed));
    EXPECT_EQ(store->statistics().found_on_disk, 6U) << "they are in memory now";
  }
}

TEST_F(StateStoreTest, WhatLeavesMemoryComesBackFromTheDisk) {
  const std::uint64_t one = bytes_of_one(40);
  StateStoreOptions options = on_disk();
  options.memory_bytes = 2 * one;
  const auto store = open(options);
  for (std::uint64_t seed = 0; seed < 8; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
  ASSERT_TRUE(store->flush());
  EXPECT_EQ(engine_->states().states_in_use(), 2U);
  for (std::uint64_t seed = 0; seed < 8; ++seed) expect_found(*store, tokens(40, seed));
  const StateStoreStatistics statistics = store->statistics();
  EXPECT_GE(statistics.found_on_disk, 6U);
  EXPECT_LE(statistics.memory_bytes, 2 * one);
  EXPECT_EQ(statistics.lost, 0U);
  EXPECT_EQ(statistics.states, 8U);
}

TEST_F(StateStoreTest, TheDiskHasABudget) {
  const std::uint64_t one = bytes_of_one(40);
  StateStoreOptions options = on_disk();
  options.memory_bytes = one;
  options.disk_bytes = 4 * one;
  {
    const auto store = open(options);
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      ASSERT_TRUE(admit(*store, tokens(40, seed)));
      store->find(tokens(3, 100 + seed));
    }
    ASSERT_TRUE(store->flush());
    const StateStoreStatistics statistics = store->statistics();
    EXPECT_LE(statistics.disk_bytes, 4 * one);
    EXPECT_EQ(statistics.left_disk, 6U);
    EXPECT_EQ(statistics.spills_failed, 0U);
    EXPECT_EQ(store->find(tokens(40, 0)).lookup.reason, LookupReason::evicted);
    expect_found(*store, tokens(40, 7));
    ASSERT_TRUE(store->flush());
  }
  // A smaller budget, and the order of uses, outlive the process.
  options.disk_bytes = 2 * one;
  const auto store = open(options);
  EXPECT_EQ(store->statistics().states, 2U);
  expect_found(*store, tokens(40, 7));
}

TEST_F(StateStoreTest, GridStatesAreWrittenOnceTheyAreUsed) {
  const auto store = open(on_disk());
  ASSERT_TRUE(admit(*store, tokens(40, 1), StateKind::grid));
  ASSERT_TRUE(store->flush());
  EXPECT_EQ(store->statistics().spilled, 0U);
  expect_found(*store, tokens(40, 1));
  ASSERT_TRUE(store->flush());
  EXPECT_EQ(store->statistics().spilled, 1U);
}

TEST_F(StateStoreTest, WhenTheWriterIsBehindNothingWaits) {
  StateStoreOptions options = on_disk();
  options.queue_bytes = 0;  // one state at a time
  const auto store = open(options);
  for (std::uint64_t seed = 0; seed < 50; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
  const StateStoreStatistics behind = store->statistics();
  EXPECT_GT(behind.spills_skipped, 0U);
  EXPECT_LE(behind.waiting, 1U);
  // They are in memory still, and flush waits for all of them.
  ASSERT_TRUE(store->flush());
  EXPECT_EQ(store->statistics().spilled, 50U);
}

// They hold memory that is in nobody's budget.
TEST_F(StateStoreTest, WhatWaitsDoesNotTakeTheSessionsMemory) {
  const std::uint64_t one = engine_->states().bytes_per_state();
  const auto small = tests::make_engine(kStoredModel, {.threads = 1, .state_memory = 8 * one});
  StateStoreOptions options = on_disk();
  options.memory_bytes = 2 * bytes_of_one(5);
  KRAIT_ASSERT_VALUE(const auto store, StateStore::open(*small, identity_of(*small), options));
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Tokens all = tokens(5, seed);
    ASSERT_NO_THROW(store->admit(all, state_behind(*small, all), StateKind::prompt)) << seed;
  }
  EXPECT_GT(store->statistics().spills_skipped, 0U);
}

TEST_F(StateStoreTest, StatesOfOthersAreKeptAndNotUsed) {
  {
    const auto store = open(on_disk(), 1);
    ASSERT_TRUE(admit(*store, tokens(40, 1)));
    ASSERT_TRUE(store->flush());
  }
  {
    const auto store = open(on_disk(), 2);
    EXPECT_EQ(store->statistics().states, 0U);
    EXPECT_EQ(store->statistics().strangers, 1U);
    const auto found = store->find(plus(tokens(40, 1), tokens(3, 2)));
    EXPECT_FALSE(found.state);
    EXPECT_EQ(found.lookup.reason, LookupReason::other_model);
    EXPECT_EQ(store->find(tokens(40, 3)).lookup.reason, LookupReason::unseen);
    EXPECT_EQ(count(*store, LookupReason::other_model), 1U);
  }
  const auto store = open(on_disk(), 1);
  expect_found(*store, tokens(40, 1));
}

TEST_F(StateStoreTest, AnotherLayoutIsAnotherModel) {
  {
    const auto store = open(on_disk());
    ASSERT_TRUE(admit(*store, tokens(40, 1)));
    ASSERT_TRUE(store->flush());
  }
  models::SyntheticShape wider = kStoredModel;
  wider.states = 12;
  const auto other = tests::make_engine(wider);
  KRAIT_ASSERT_VALUE(const auto store, StateStore::open(*other, identity_of(*other), on_disk()));
  EXPECT_EQ(store->find(tokens(40, 1)).lookup.reason, LookupReason::other_model);
}

TEST_F(StateStoreTest, ASecondProcessIsToldAndMayGoOnWithoutTheFolder) {
  const auto store = open(on_disk());
  expect_error(StateStore::open(*engine_, identity_of(*engine_), on_disk()), ErrorCode::kResourceExhausted,
               {"another process", folder_.path().string()});
  const auto without = open({});
  EXPECT_TRUE(admit(*without, tokens(40, 1)));
  EXPECT_TRUE(without->flush());
}

// Bytes that were changed in the database's files.
TEST_F(StateStoreTest, DamagedStatesAreDropped) {
  {
    const auto store = open(on_disk());
    for (std::uint64_t seed = 0; seed < 3; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
    ASSERT_TRUE(store->flush());
  }
  // Opened and closed, the log becomes a table; its blocks then have their bytes changed in place.
  {
    open(on_disk());
  }
  int tables = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder_.path())) {
    if (file.path().extension() != ".sst") continue;
    ++tables;
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes(file.file_size(), '\0');
    stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    // The magic of a state object.
    const auto at = bytes.rfind("KRAITST");
    if (at == std::string::npos) continue;
    stream.seekp(static_cast<std::streamoff>(at + 2000));
    stream.put(static_cast<char>(bytes[at + 2000] ^ 1));
  }
  ASSERT_GT(tables, 0);
  const auto store = open(on_disk());
  ASSERT_EQ(store->statistics().states, 3U);
  std::uint64_t dropped = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const auto found = store->find(tokens(40, seed));
    if (found.state) {
      EXPECT_EQ(content_of(*engine_, found.state), content_of(*engine_, state_behind(*engine_, tokens(40, seed))));
    } else {
      ++dropped;
      EXPECT_EQ(found.lookup.reason, LookupReason::unseen) << "forgotten, not evicted";
    }
  }
  EXPECT_GT(dropped, 0U);
  EXPECT_EQ(store->statistics().dropped_damaged, dropped);
  EXPECT_EQ(store->statistics().states, 3 - dropped);
  // And made again.
  for (std::uint64_t seed = 0; seed < 3; ++seed) ASSERT_TRUE(admit(*store, tokens(40, seed)));
  for (std::uint64_t seed = 0; seed < 3; ++seed) expect_found(*store, tokens(40, seed));
}

// Bytes that the database finds nothing wrong with: no object, the object of other tokens, one with a bit flipped.
TEST_F(StateStoreTest, WrongObjectsUnderTheRightKeyAreDropped) {
  const auto encode = [&](const Tokens& all) {
    const State state = state_behind(*engine_, all);
    const StateSections sections(*engine_, identity_of(*engine_), state, {});
    return *formats::encode_state(sections.description(), sections.sources());
  };
  std::vector<std::byte> flipped = encode(tokens(40, 2));
  flipped[flipped.size() / 2] ^= std::byte{1};
  const std::vector<std::vector<std::byte>> objects = {std::vector<std::byte>(5000, std::byte{7}),
                                                       encode(tokens(40, 9)), flipped, encode(tokens(40, 3))};
  {
    const Hash128 owner = owner_of(identity_of(*engine_), engine_->model().state_layout());
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder_.path(), owner, 1 << 24));
    for (std::uint64_t seed = 0; seed < objects.size(); ++seed) {
      const Tokens all = tokens(40, seed);
      ASSERT_TRUE(disk->write(extend_prefix({}, all), all, {}, 5000, objects[seed]));
    }
  }
  const auto store = open(on_disk());
  ASSERT_EQ(store->statistics().states, 4U);
  for (std::uint64_t seed = 0; seed < 3; ++seed) EXPECT_FALSE(store->find(tokens(40, seed)).state) << seed;
  expect_found(*store, tokens(40, 3));
  EXPECT_EQ(store->statistics().dropped_damaged, 3U);
  EXPECT_EQ(store->statistics().states, 1U);
}

// Prefixes of a few conversations, admitted, found and given back by several threads, under budgets that are always too
// small. What is found is always the right state.
TEST_F(StateStoreTest, ThreadsMayFindAndAdmitAtOnce) {
  const std::uint64_t one = bytes_of_one(60);
  StateStoreOptions options = on_disk();
  options.memory_bytes = 5 * one;
  options.disk_bytes = 12 * one;
  options.queue_bytes = 3 * one;
  const auto store = open(options);
  std::vector<Tokens> prompts;
  std::vector<State> states;
  std::vector<std::vector<std::byte>> contents;
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Tokens prompt = plus(tokens(20, seed / 6), tokens(40, seed));
    states.push_back(state_behind(*engine_, prompt));
    contents.push_back(content_of(*engine_, states.back()));
    prompts.push_back(std::move(prompt));
  }
  std::atomic<int> wrong = 0;
  std::atomic<int> found_some = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      Random random(thread);
      for (int i = 0; i < 300; ++i) {
        const std::size_t at = random.next() % prompts.size();
        switch (random.next() % 8) {
          case 0: store->give_back(1); break;
          case 1:
            if (store->pin(prompts[at])) store->unpin(prompts[at]);
            break;
          case 2: store->forget(prompts[at]); break;
          case 3:
          case 4: store->admit(prompts[at], states[at], static_cast<StateKind>(random.next() % 4)); break;
          default: {
            const auto found = store->find(prompts[at]);
            if (!found.state) break;
            ++found_some;
            if (found.state.position() != 60 || content_of(*engine_, found.state) != contents[at]) ++wrong;
          }
        }
        if (i % 100 == 99) (void)store->flush();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto flushed = store->flush();
  EXPECT_TRUE(flushed.has_value()) << flushed.error().message;
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(found_some, 0);
  const StateStoreStatistics statistics = store->statistics();
  EXPECT_LE(statistics.memory_bytes, 5 * one);
  EXPECT_LE(statistics.disk_bytes, 12 * one);
  EXPECT_EQ(statistics.dropped_damaged, 0U);
  EXPECT_EQ(statistics.spills_failed, 0U);
  EXPECT_EQ(statistics.reads_failed, 0U);
  EXPECT_GT(statistics.found_on_disk, 0U);
}

}  // namespace
}  // namespace krait::runtime
