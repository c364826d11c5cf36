// A prompt from the longest stored state on: how much is computed, and that nobody can tell from the text.
#include "krait/runtime/prefill.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/formats/temporary_folder.h"
#include "tests/runtime/stored_states.h"
#include "tests/support/tiny_models.h"

namespace krait::runtime {
namespace {

using tests::content_of;
using tests::Continuation;
using tests::greedy;
using tests::identity_of;
using tests::random_tokens;
using tests::TemporaryFolder;

using Tokens = std::vector<TokenId>;

// That of the state law (tests/models/state_law_test.cpp): each of the 2 to 8 layers adds a few roundings of products
// of up to 80 terms (80 × 2^-24 = 5e-6) where sums are ordered differently.
constexpr double kCutTolerance = 2e-5;

double difference(const Continuation& left, const Continuation& right) {
  double largest = 0;
  double scale = 0;
  for (std::size_t row = 0; row < left.logits.size(); ++row) {
    for (std::size_t i = 0; i < left.logits[row].size(); ++i) {
      const double a = left.logits[row][i];
      const double b = right.logits[row][i];
      largest = std::max(largest, std::fabs(a - b));
      scale = std::max(scale, std::fabs(a));
    }
  }
  return largest / scale;
}

std::unique_ptr<StateStore> open_store(Engine& engine, const std::filesystem::path& folder = {}) {
  auto store = StateStore::open(engine, identity_of(engine), {.folder = folder});
  if (!store) throw std::runtime_error(store.error().message);
  return *std::move(store);
}

class PrefillLaw : public testing::TestWithParam<models::SyntheticShape> {
 protected:
  Tokens tokens(std::int64_t count, std::uint64_t seed) const {
    return random_tokens(count, GetParam().vocabulary, seed);
  }
};

// The four things that people do with long prompts (edit, go back, ask in another session, go on tomorrow), each
// against a session that never knew a store.
TEST_P(PrefillLaw, RecomputesOnlyWhatIsNew) {
  const TemporaryFolder folder;
  // Chunks end where the grid's states stand, so that with and without a store the cuts are the same.
  const auto engine = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = 256});
  const auto plain = [&](const Tokens& prompt) {
    Session session(*engine);
    session.feed(prompt);
    return greedy(session, 8);
  };
  const Tokens prompt = tokens(1200, 1);
  Tokens edited = prompt;
  edited[600] = (edited[600] + 1) % static_cast<TokenId>(GetParam().vocabulary);
  const Continuation expected = plain(prompt);
  {
    const auto store = open_store(*engine, folder.path());
    Prefilled first = prefill(*engine, store.get(), prompt);
    EXPECT_EQ(first.reused, 0);
    EXPECT_EQ(first.computed, 1200);
    EXPECT_EQ(first.lookup.reason, LookupReason::unseen);
    const Continuation after_first = greedy(first.session, 8);
    EXPECT_EQ(after_first.logits, expected.logits) << "taking states changes nothing";

    Prefilled edit = prefill(*engine, store.get(), edited);
    EXPECT_EQ(edit.lookup.reason, LookupReason::partial_hit);
    EXPECT_GE(edit.reused, 600 - 256) << to_string(edit.lookup);
    EXPECT_LE(edit.reused, 600);
    const Continuation after_edit = greedy(edit.session, 8);
    const Continuation expected_edit = plain(edited);
    EXPECT_LE(difference(expected_edit, after_edit), kCutTolerance);
    EXPECT_EQ(after_edit.tokens, expected_edit.tokens);

    Prefilled back = prefill(*engine, store.get(), prompt);
    EXPECT_EQ(back.computed, 0);
    EXPECT_EQ(back.lookup.reason, LookupReason::hit);
    Prefilled another = prefill(*engine, store.get(), prompt);
    EXPECT_EQ(another.computed, 0);
    // Both at once: they share a state, and neither sees the other.
    const Continuation after_back = greedy(back.session, 8);
    const Continuation after_another = greedy(another.session, 8);
    EXPECT_EQ(after_back.logits, expected.logits);
    EXPECT_EQ(after_another.logits, expected.logits);
    const auto flushed = store->flush();
    ASSERT_TRUE(flushed.has_value()) << flushed.error().message;
  }
  // As a new process would: another engine, with a pool of its own.
  const auto tomorrow = tests::make_engine(GetParam(), {.threads = 1, .prefill_chunk = 256});
  const auto store = open_store(*tomorrow, folder.path());
  Prefilled same = prefill(*tomorrow, store.get(), prompt);
  EXPECT_EQ(same.computed, 0);
  EXPECT_EQ(greedy(same.session, 8).logits, expected.logits);

  Tokens longer = prompt;
  const Tokens appended = tokens(50, 2);
  longer.insert(longer.end(), appended.begin(), appended.end());
  Prefilled more = prefill(*tomorrow, store.get(), longer);
  EXPECT_EQ(more.computed, 50);
  EXPECT_EQ(more.reused, 1200);
  // The same cuts without a store.
  Session session(*engine);
  session.feed(prompt);
  session.feed(appended);
  EXPECT_EQ(greedy(more.session, 8).logits, greedy(session, 8).logits);
}

INSTANTIATE_TEST_SUITE_P(Models, PrefillLaw, testing::ValuesIn(tests::kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

TEST(Prefill, TheThirdVisitorOfABranchFindsItsState) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const auto store = open_store(*engine);
  const Tokens shared = random_tokens(100, 23, 1);
  const auto with = [&](std::uint64_t seed) {
    Tokens all = shared;
    all.push_back(static_cast<TokenId>(seed));  // they part here
    const Tokens own = random_tokens(50, 23, 100 + seed);
    all.insert(all.end(), own.begin(), own.end());
    return all;
  };
  EXPECT_EQ(prefill(*engine, store.get(), with(1)).reused, 0);
  const Prefilled second = prefill(*engine, store.get(), with(2));
  EXPECT_EQ(second.reused, 0);
  EXPECT_EQ(second.lookup.reason, LookupReason::no_state);
  EXPECT_EQ(prefill(*engine, store.get(), with(3)).reused, 100);
}

TEST(Prefill, AReplyIsGoneOnFrom) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const auto store = open_store(*engine);
  Tokens dialog = random_tokens(60, 23, 1);
  Prefilled first = prefill(*engine, store.get(), dialog);
  const Continuation reply = greedy(first.session, 20);
  dialog.insert(dialog.end(), reply.tokens.begin(), reply.tokens.end());
  ASSERT_TRUE(store->admit(dialog, first.session.snapshot(), StateKind::reply));
  const Tokens question = random_tokens(7, 23, 2);
  dialog.insert(dialog.end(), question.begin(), question.end());
  EXPECT_EQ(prefill(*engine, store.get(), dialog).computed, 7);
}

// For programs that end after a prompt: the next one finds the states inside it too.
TEST(Prefill, TheGridOutlivesTheProcessWhereAskedTo) {
  const Tokens prompt = random_tokens(1200, 23, 1);
  Tokens edited = prompt;
  edited[600] = (edited[600] + 1) % 23;
  for (const bool grid_on_disk : {false, true}) {
    const TemporaryFolder folder;
    std::int64_t reused = -1;
    for (const Tokens& tokens : {prompt, edited}) {
      const auto engine = tests::make_engine(tests::kStoredModel);
      auto store =
          StateStore::open(*engine, identity_of(*engine), {.folder = folder.path(), .grid_on_disk = grid_on_disk});
      ASSERT_TRUE(store.has_value()) << store.error().message;
      reused = prefill(*engine, store->get(), tokens).reused;
      const auto flushed = (*store)->flush();
      ASSERT_TRUE(flushed.has_value()) << flushed.error().message;
    }
    if (grid_on_disk) {
      EXPECT_GE(reused, 600 - 256);
    } else {
      EXPECT_EQ(reused, 0);
    }
  }
}

TEST(Prefill, WithoutAStoreEverythingIsComputed) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const Prefilled all = prefill(*engine, nullptr, random_tokens(30, 23, 1));
  EXPECT_EQ(all.computed, 30);
  EXPECT_EQ(all.lookup.reason, LookupReason::disabled);
  EXPECT_EQ(all.session.position(), 30);
}

TEST(Prefill, AStateWithoutLogitsIsNotTheEndOfAPrompt) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const auto store = open_store(*engine);
  const Tokens tokens = random_tokens(30, 23, 1);
  Session session(*engine);
  const StepRequest request{&session, tokens, 30};
  engine->step({&request, 1});
  ASSERT_TRUE(store->admit(tokens, session.snapshot(), StateKind::prompt));
  const Prefilled again = prefill(*engine, store.get(), tokens);
  EXPECT_EQ(again.computed, 30);
  EXPECT_FALSE(again.session.logits().empty());
  // The prompt's state has its logits now.
  EXPECT_EQ(prefill(*engine, store.get(), tokens).computed, 0);
}

TEST(Prefill, WrongPromptsAreRefused) {
  const auto engine = tests::make_engine(tests::kStoredModel);
  const auto store = open_store(*engine);
  const Tokens good = random_tokens(30, 23, 1);
  prefill(*engine, store.get(), good);
  EXPECT_THROW(prefill(*engine, store.get(), {}), UserError);
  const Tokens bad = {1, 23};
  EXPECT_THROW(prefill(*engine, store.get(), bad), UserError);
  EXPECT_EQ(store->statistics().states, 1U) << "nothing was given up for them";
}

// The store and the sessions live off the same memory; the sessions come first.
TEST(Prefill, TheStoreGivesWayWhenMemoryIsFull) {
  const auto roomy = tests::make_engine(tests::kStoredModel);
  const std::uint64_t one = roomy->states().bytes_per_state();
  const auto engine = tests::make_engine(tests::kStoredModel, {.threads = 1, .state_memory = 8 * one});
  ASSERT_EQ(engine->states().capacity(), 8U);
  auto opened =
      StateStore::open(*engine, identity_of(*engine), {.memory_bytes = 7 * one, .policy = {.grid_tokens = 8}});
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  StateStore& store = **opened;
  std::vector<Prefilled> live;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    live.push_back(prefill(*engine, &store, random_tokens(40, 23, seed)));
    const Tokens next = {1};
    while (true) {  // a session of its own memory
      try {
        live.back().session.feed(next);
        break;
      } catch (const UserError&) {
        ASSERT_TRUE(store.give_back(one));
      }
    }
  }
  EXPECT_EQ(store.statistics().memory_bytes, 0U);
  EXPECT_THROW(prefill(*engine, &store, random_tokens(40, 23, 9)), UserError) << "there is none left to give";
  for (const Prefilled& one_of_them : live) EXPECT_EQ(one_of_them.session.position(), 41);
}

}  // namespace
}  // namespace krait::runtime
