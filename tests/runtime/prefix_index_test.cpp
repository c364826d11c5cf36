#include "krait/runtime/prefix_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using Tokens = std::vector<std::int32_t>;
using EntryId = PrefixIndex::EntryId;
using Snapshots = std::vector<Lookup::Snapshot>;
using Refusal = PrefixIndex::Refusal;

PrefixIndex::Options room_for(std::uint64_t states, std::uint64_t on_disk = 0) {
  PrefixIndex::Options options;
  options.memory_bytes = states * 100;
  options.disk_bytes = on_disk * 100;
  options.state_bytes = 100;
  options.grid_tokens = 0;
  options.least_gain_tokens = 1;
  return options;
}

Tokens prompt(std::int32_t first, std::int64_t length) {
  Tokens tokens(static_cast<std::size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::span<const std::int32_t> head(const Tokens& tokens, std::int64_t count) {
  return std::span(tokens).first(static_cast<std::size_t>(count));
}

bool begins_with(const Tokens& tokens, const Tokens& prefix) {
  return std::ranges::mismatch(tokens, prefix).in2 == prefix.end();
}

EntryId keep(PrefixIndex& index, std::span<const std::int32_t> tokens, StateKind kind = StateKind::prompt) {
  return index.admit(tokens, kind, 100).id;
}

// What a store does with a prompt.
Lookup serve(PrefixIndex& index, const Tokens& tokens) {
  Lookup lookup = index.plan(tokens);
  for (const auto& [position, kind] : lookup.snapshots) index.admit(head(tokens, position), kind, 100);
  return lookup;
}

TEST(PrefixIndex, SaysWhyALookupEndedAsItDid) {
  PrefixIndex index(room_for(1));
  const Tokens tokens = prompt(0, 40);
  Lookup lookup = index.plan(tokens);
  EXPECT_EQ(to_string(lookup), "no stored sequence begins like this");
  keep(index, tokens);
  lookup = index.plan(tokens);
  EXPECT_EQ(lookup.reason, LookupReason::hit);
  EXPECT_EQ(to_string(lookup), "hit: all 40 tokens");
  lookup = index.plan(joined(tokens, {1, 2}));
  EXPECT_EQ(lookup.position, 40);
  EXPECT_EQ(to_string(lookup), "partial hit at 40 of 42 tokens");
  lookup = index.plan(joined(prompt(0, 30), {-1}));
  EXPECT_EQ(lookup.entry, 0U);
  EXPECT_EQ(to_string(lookup),
            "no state at this position: the first 30 of 31 tokens are known, but none of their states is kept");
  keep(index, prompt(900, 5));  // there is room for one
  lookup = index.plan(joined(tokens, {1, 2}));
  EXPECT_EQ(lookup.reason, LookupReason::evicted);
  EXPECT_EQ(to_string(lookup), "evicted: a state at 40 was here");
  lookup.reason = LookupReason::other_model;
  EXPECT_EQ(to_string(lookup), "other model: the states stored belong to another model or layout");
  lookup.reason = LookupReason::disabled;
  EXPECT_EQ(to_string(lookup), "disabled: no states are kept");
}

TEST(PrefixIndex, APartialHitNamesTheDeeperStateThatWasEvicted) {
  PrefixIndex index(room_for(2));
  keep(index, prompt(0, 10));
  const EntryId deep = keep(index, prompt(0, 25));
  index.leave(deep, StateTier::memory);
  EXPECT_EQ(to_string(index.plan(prompt(0, 30))), "partial hit at 10 of 30 tokens; a state at 25 was evicted");
}

TEST(PrefixIndex, AStateBeyondWhatTheCallerCanUseIsNoHit) {
  PrefixIndex index(room_for(4));
  const Tokens tokens = prompt(0, 40);
  keep(index, tokens);
  const Lookup lookup = index.plan(tokens, 39);
  EXPECT_EQ(lookup.position, 0);
  EXPECT_EQ(lookup.snapshots, (Snapshots{{39, StateKind::junction}, {40, StateKind::prompt}}));
  keep(index, head(tokens, 39), StateKind::junction);
  EXPECT_EQ(index.plan(tokens, 39).reason, LookupReason::hit);
}

TEST(PrefixIndex, TheSecondVisitorOfABranchPointMakesItsStateAndTheThirdFindsIt) {
  PrefixIndex index(room_for(10));
  const Tokens system = prompt(0, 50);
  EXPECT_EQ(serve(index, joined(system, prompt(1000, 20))).snapshots, (Snapshots{{70, StateKind::prompt}}));
  const Lookup second = serve(index, joined(system, prompt(2000, 20)));
  EXPECT_EQ(second.reason, LookupReason::no_state);
  EXPECT_EQ(second.agreed, 50);
  EXPECT_EQ(second.snapshots, (Snapshots{{50, StateKind::junction}, {70, StateKind::prompt}}));
  const Lookup third = serve(index, joined(system, prompt(3000, 20)));
  EXPECT_EQ(third.position, 50);
  EXPECT_EQ(third.snapshots, (Snapshots{{70, StateKind::prompt}}));
}

TEST(PrefixIndex, AJunctionThatSavesNextToNothingIsNotMade) {
  auto options = room_for(10);
  options.least_gain_tokens = 16;
  PrefixIndex index(options);
  const Tokens system = prompt(0, 50);
  keep(index, system);
  serve(index, joined(system, prompt(1000, 40)));
  EXPECT_EQ(serve(index, joined(joined(system, prompt(1000, 15)), {-1})).snapshots,
            (Snapshots{{66, StateKind::prompt}}));
  EXPECT_EQ(serve(index, joined(joined(system, prompt(1000, 16)), {-2})).snapshots,
            (Snapshots{{66, StateKind::junction}, {67, StateKind::prompt}}));
}

TEST(PrefixIndex, GhostsStillShowBranchPointsAndAreBounded) {
  auto options = room_for(1);
  options.ghosts = 3;
  PrefixIndex index(options);
  const Tokens first = joined(prompt(0, 50), {-1});
  keep(index, first);
  keep(index, prompt(5000, 10));
  EXPECT_EQ(index.plan(joined(prompt(0, 50), {-2})).snapshots,
            (Snapshots{{50, StateKind::junction}, {51, StateKind::prompt}}));
  for (std::int32_t i = 0; i < 3; ++i) keep(index, prompt(6000 + 100 * i, 10));
  EXPECT_EQ(index.ghosts(), 3U);
  EXPECT_EQ(index.plan(first).reason, LookupReason::unseen);
  // By tokens of paths too: 10 of the entry and 10 of a ghost fit, 20 of ghosts do not.
  options.ghosts = 100;
  options.path_tokens = 25;
  PrefixIndex narrow(options);
  for (std::int32_t i = 0; i < 5; ++i) keep(narrow, prompt(100 * i, 10));
  EXPECT_EQ(narrow.ghosts(), 1U);
}

TEST(PrefixIndex, APromptEditedInTheMiddleFindsAStateOfTheGrid) {
  auto options = room_for(100);
  options.grid_tokens = 256;
  options.least_gain_tokens = 16;
  PrefixIndex index(options);
  Tokens tokens = prompt(0, 1200);
  EXPECT_EQ(serve(index, tokens).snapshots, (Snapshots{{256, StateKind::grid},
                                                       {512, StateKind::grid},
                                                       {768, StateKind::grid},
                                                       {1024, StateKind::grid},
                                                       {1200, StateKind::prompt}}));
  tokens[600] = -1;
  const Lookup edited = index.plan(tokens);
  EXPECT_EQ(edited.agreed, 600);
  EXPECT_GE(edited.position, 600 - 256);
  EXPECT_EQ(edited.position, 512);
  EXPECT_EQ(index.entry(edited.entry).kind, StateKind::junction);  // it has shown its use
}

TEST(PrefixIndex, JunctionsStandBetweenAndBehindTheLinesOfTheGrid) {
  auto options = room_for(100);
  options.grid_tokens = 100;
  PrefixIndex index(options);
  const Tokens system = prompt(0, 150);
  keep(index, joined(system, prompt(1000, 10)));
  EXPECT_EQ(index.plan(joined(system, prompt(2000, 100))).snapshots,
            (Snapshots{
                {100, StateKind::grid}, {150, StateKind::junction}, {200, StateKind::grid}, {250, StateKind::prompt}}));
  EXPECT_EQ(index.plan(joined(system, prompt(3000, 20))).snapshots,
            (Snapshots{{100, StateKind::grid}, {150, StateKind::junction}, {170, StateKind::prompt}}));
}

TEST(PrefixIndex, TheGridStaysFineUpToItsShareAndCoarsensAsMemoryFills) {
  auto options = room_for(64);
  options.grid_tokens = 10;
  const auto spacing = [&](std::int64_t length, std::int32_t filled) {
    PrefixIndex index(options);
    for (std::int32_t i = 0; i < filled; ++i) keep(index, prompt(10000 + i, 1));
    const auto snapshots = index.plan(prompt(0, length)).snapshots;
    return snapshots.size() == 1 ? 0 : snapshots.front().position;
  };
  EXPECT_EQ(spacing(80, 0), 10);   // 8 of the 64 free
  EXPECT_EQ(spacing(160, 0), 20);  // no more than 8
  EXPECT_EQ(spacing(80, 32), 20);  // 4 of 32
  EXPECT_EQ(spacing(80, 60), 0);
  options.memory_bytes = PrefixIndex::kUnlimited;
  options.grid_share = 1;
  EXPECT_EQ(spacing(80, 0), 10);
}

TEST(PrefixIndex, TheGridEvictsNobodyAndIsEvictedFirst) {
  PrefixIndex index(room_for(3));
  const EntryId small = keep(index, prompt(500, 1));
  const EntryId grid = keep(index, prompt(0, 1000), StateKind::grid);  // would save the most by far
  keep(index, prompt(600, 1));
  const auto refused = index.admit(prompt(0, 500), StateKind::grid, 100);
  EXPECT_EQ(refused.id, 0U);
  EXPECT_EQ(refused.refusal, Refusal::no_free_memory);
  EXPECT_EQ(index.size(), 3U);
  EXPECT_EQ(index.admit(prompt(700, 1), StateKind::prompt, 100).forgotten, std::vector<EntryId>{grid});
  EXPECT_EQ(index.entry(small).position, 1);
}

TEST(PrefixIndex, TheVictimIsOldSavesLittleAndIsLarge) {
  PrefixIndex index(room_for(10));
  const EntryId small_gain = keep(index, prompt(0, 10));
  const EntryId large_gain = keep(index, prompt(1000, 500));
  index.plan(prompt(-50, 3));
  EXPECT_EQ(index.choose_victim(StateTier::memory), small_gain);
  // What stands above counts: 490 of 500 are saved by another.
  keep(index, prompt(1000, 495));
  EXPECT_EQ(index.choose_victim(StateTier::memory), large_gain);
  // Age: four times the saving is not enough when five times as old.
  PrefixIndex aged(room_for(10));
  const EntryId old = keep(aged, prompt(0, 40));
  for (int i = 0; i < 4; ++i) aged.plan(prompt(-50, 3));
  const EntryId young = keep(aged, prompt(100, 10));
  EXPECT_EQ(aged.choose_victim(StateTier::memory), old);
  // Bytes: the same saving in eight times the bytes goes first.
  const EntryId bulky = aged.admit(prompt(200, 10), StateKind::prompt, 800).id;
  aged.pin(old);
  EXPECT_NE(aged.choose_victim(StateTier::memory), young);
  EXPECT_EQ(aged.admit(prompt(300, 10), StateKind::prompt, 200).forgotten, std::vector<EntryId>{bulky});
}

TEST(PrefixIndex, AnEntryThatGainedWeightDoesNotHideThoseBehindIt) {
  PrefixIndex index(room_for(10));
  const EntryId above = keep(index, prompt(0, 95));
  keep(index, prompt(0, 100));  // saves 5, and 100 when the one above is gone
  const EntryId light = keep(index, prompt(1000, 5));
  keep(index, prompt(2000, 20));
  index.leave(above, StateTier::memory);
  EXPECT_EQ(index.choose_victim(StateTier::memory), light);
}

TEST(PrefixIndex, PinnedEntriesStayAndTheCallerHearsThatNothingElseIsLeft) {
  PrefixIndex index(room_for(2));
  const EntryId a = keep(index, prompt(0, 1));
  const EntryId b = keep(index, prompt(10, 1));
  index.pin(a);
  index.pin(b);
  index.pin(b);
  EXPECT_FALSE(index.choose_victim(StateTier::memory));
  auto refused = index.admit(prompt(20, 1), StateKind::prompt, 100);
  EXPECT_EQ(refused.refusal, Refusal::only_pinned_left);
  EXPECT_TRUE(refused.forgotten.empty());
  EXPECT_EQ(index.used(StateTier::memory), 200U);
  index.unpin(b);
  EXPECT_EQ(index.admit(prompt(20, 1), StateKind::prompt, 100).refusal, Refusal::only_pinned_left);
  index.unpin(b);
  // Nobody goes for something that will not fit in the end.
  refused = index.admit(prompt(20, 1), StateKind::prompt, 150);
  EXPECT_EQ(refused.refusal, Refusal::only_pinned_left);
  EXPECT_EQ(index.size(), 2U);
  EXPECT_EQ(index.admit(prompt(20, 1), StateKind::prompt, 100).forgotten, std::vector<EntryId>{b});
  EXPECT_EQ(index.admit(prompt(30, 1), StateKind::prompt, 201).refusal, Refusal::larger_than_budget);
  EXPECT_THROW(index.leave(a, StateTier::memory), InternalError);
  EXPECT_THROW(index.forget(a), InternalError);
  EXPECT_THROW(index.unpin(b), InternalError);
}

TEST(PrefixIndex, DemotedEntriesAreFoundOnDiskAndForgottenThereByTheSameValue) {
  PrefixIndex index(room_for(1, 2));
  const EntryId a = keep(index, prompt(0, 50));
  index.enter(a, StateTier::disk);
  index.leave(a, StateTier::memory);
  EXPECT_EQ(index.plan(prompt(0, 60)).entry, a);
  EXPECT_FALSE(index.entry(a).in_memory);
  EXPECT_FALSE(index.choose_victim(StateTier::memory));
  const EntryId b = index.admit(prompt(100, 10), StateKind::reply, 100, StateTier::disk).id;
  EXPECT_FALSE(index.fits(StateTier::disk, 1));
  EXPECT_EQ(index.choose_victim(StateTier::disk), b);
  // Its copy on disk makes losing the one in memory cheap.
  index.enter(a, StateTier::memory);
  EXPECT_DOUBLE_EQ(index.seconds_saved(a, StateTier::disk), 50 * 1e-3);
  EXPECT_DOUBLE_EQ(index.seconds_saved(a, StateTier::memory), 100 * 1e-9);
  // Leaving the last tier is what makes a ghost.
  index.leave(a, StateTier::memory);
  EXPECT_EQ(index.ghosts(), 0U);
  index.leave(a, StateTier::disk);
  EXPECT_EQ(index.ghosts(), 1U);
  EXPECT_THROW(index.entry(a), InternalError);
  index.forget(b);
  EXPECT_EQ(index.ghosts(), 1U);
  EXPECT_EQ(index.plan(prompt(100, 10)).reason, LookupReason::unseen);
}

TEST(PrefixIndex, AdmittingWhatIsThereRefreshesIt) {
  PrefixIndex index(room_for(2));
  const EntryId a = keep(index, prompt(0, 10), StateKind::grid);
  const auto again = index.admit(prompt(0, 10), StateKind::reply, 100);
  EXPECT_TRUE(again.existed);
  EXPECT_EQ(again.id, a);
  EXPECT_EQ(index.entry(a).kind, StateKind::reply);
  EXPECT_EQ(index.used(StateTier::memory), 100U);
  EXPECT_EQ(index.path(a), prompt(0, 10));
}

// Against a plain list: longest prefix, what an entry saves, budgets, pins, kinds, ghosts.
TEST(PrefixIndex, AgreesWithAListUnderRandomOperations) {
  struct Kept {
    Tokens tokens;
    EntryId id;
    std::uint64_t last;
    int pins;
  };
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    auto options = room_for(12);
    options.grid_tokens = seed % 3 == 0 ? 2 : 0;
    options.ghosts = 5;
    PrefixIndex index(options);
    std::vector<Kept> list;
    std::uint64_t lookups = 0;
    const auto tokens_saved = [&](const Kept& kept) {
      std::int64_t above = 0;
      for (const auto& other : list)
        if (other.tokens.size() < kept.tokens.size() && begins_with(kept.tokens, other.tokens))
          above = std::max(above, std::ssize(other.tokens));
      return std::ssize(kept.tokens) - above;
    };
    const auto gone = [&](EntryId id) { std::erase_if(list, [id](const Kept& kept) { return kept.id == id; }); };
    for (int step = 0; step < 600; ++step) {
      Tokens tokens(1 + random() % 8);
      for (auto& token : tokens) token = static_cast<std::int32_t>(random() % 2);
      const Lookup lookup = index.plan(tokens);
      ++lookups;
      auto longest = list.end();
      for (auto it = list.begin(); it != list.end(); ++it)
        if (begins_with(tokens, it->tokens) && (longest == list.end() || it->tokens.size() > longest->tokens.size()))
          longest = it;
      ASSERT_EQ(lookup.entry, longest == list.end() ? 0 : longest->id);
      ASSERT_EQ(lookup.position, longest == list.end() ? 0 : std::ssize(longest->tokens));
      if (longest != list.end()) longest->last = lookups;
      ASSERT_LE(lookup.position, lookup.agreed);
      for (const auto& [position, kind] : lookup.snapshots) {
        ASSERT_GT(position, lookup.position);
        const std::uint64_t bytes = 50 + 50 * (random() % 3);
        const Tokens prefix(tokens.begin(), tokens.begin() + position);
        const auto before = list;
        const bool had_room = index.fits(StateTier::memory, bytes);
        const auto admission = index.admit(prefix, kind, bytes);
        for (const EntryId id : admission.forgotten) {
          const auto it = std::ranges::find(before, id, &Kept::id);
          ASSERT_NE(it, before.end());
          ASSERT_EQ(it->pins, 0);
          gone(id);
        }
        ASSERT_TRUE(kind != StateKind::grid || admission.forgotten.empty());
        ASSERT_TRUE(!had_room || admission.forgotten.empty());
        if (admission.id == 0) {
          ASSERT_TRUE(admission.refusal == Refusal::only_pinned_left || admission.refusal == Refusal::no_free_memory);
          continue;
        }
        ASSERT_EQ(index.path(admission.id), prefix);
        if (admission.existed) {
          std::ranges::find(list, admission.id, &Kept::id)->last = lookups;
        } else {
          list.push_back({prefix, admission.id, lookups, 0});
        }
      }
      std::uint64_t used = 0;
      for (const auto& kept : list) {
        used += index.entry(kept.id).bytes;
        ASSERT_DOUBLE_EQ(index.seconds_saved(kept.id, StateTier::memory),
                         options.seconds_per_token * static_cast<double>(tokens_saved(kept)));
      }
      ASSERT_EQ(index.used(StateTier::memory), used);
      ASSERT_LE(used, options.memory_bytes);
      ASSERT_EQ(index.size(), list.size());
      ASSERT_LE(index.ghosts(), options.ghosts);
      if (!list.empty()) {
        Kept& some = list[random() % list.size()];
        if (some.pins == 0 && random() % 8 == 0) {
          index.pin(some.id);
          ++some.pins;
        } else if (some.pins > 0 && random() % 2 == 0) {
          index.unpin(some.id);
          --some.pins;
        }
      }
      const auto victim = index.choose_victim(StateTier::memory);
      ASSERT_EQ(victim.has_value(), std::ranges::any_of(list, [](const Kept& kept) { return kept.pins == 0; }));
      if (!victim) continue;
      const auto it = std::ranges::find(list, *victim, &Kept::id);
      ASSERT_EQ(it->pins, 0);
      bool any_grid = false;
      for (const auto& kept : list) any_grid |= kept.pins == 0 && index.entry(kept.id).kind == StateKind::grid;
      ASSERT_EQ(index.entry(*victim).kind == StateKind::grid, any_grid);
    }
  }
}

// Where no state stands above another, no weight changes behind the index's back: the victim's value is within the
// width of a queue, a factor of sqrt(2), of the least.
TEST(PrefixIndex, TheVictimsValueIsTheLeastUpToTheWidthOfAQueue) {
  std::mt19937 random(1);
  PrefixIndex index(room_for(500));
  std::vector<std::pair<EntryId, std::uint64_t>> kept;
  for (std::int32_t i = 0; i < 300; ++i) {
    const Tokens tokens = prompt(i * 1000, 1 + static_cast<std::int64_t>(random() % 900));
    index.plan(tokens);
    kept.emplace_back(keep(index, tokens), i + 1);
  }
  while (!kept.empty()) {
    const auto value = [&](const auto& one) {
      return index.seconds_saved(one.first, StateTier::memory) / static_cast<double>(300 - one.second + 1);
    };
    const EntryId victim = index.choose_victim(StateTier::memory).value();
    const auto it = std::ranges::find(kept, victim, &std::pair<EntryId, std::uint64_t>::first);
    const double least = value(*std::ranges::min_element(kept, {}, value));
    ASSERT_LE(value(*it), least * std::sqrt(2.0) * (1 + 1e-9));
    index.leave(victim, StateTier::memory);
    kept.erase(it);
  }
}

TEST(PrefixIndex, FindsExactlyWhatIsKeptWithoutUsingIt) {
  PrefixIndex index(room_for(1));
  const EntryId id = keep(index, prompt(0, 40));
  EXPECT_EQ(index.find(prompt(0, 40)), id);
  EXPECT_EQ(index.find(prompt(0, 39)), std::nullopt);
  EXPECT_EQ(index.find(prompt(0, 41)), std::nullopt);
  EXPECT_EQ(index.entry(id).hits, 0U);
  keep(index, prompt(100, 40));
  EXPECT_EQ(index.find(prompt(0, 40)), std::nullopt) << "evicted";
}

TEST(PrefixIndex, HitsOfEarlierRunsCount) {
  PrefixIndex index(room_for(0, 2));
  const EntryId used = index.admit(prompt(0, 40), StateKind::prompt, 100, StateTier::disk, 3).id;
  const EntryId unused = index.admit(prompt(100, 40), StateKind::prompt, 100, StateTier::disk).id;
  EXPECT_EQ(index.entry(used).hits, 3U);
  EXPECT_EQ(index.choose_victim(StateTier::disk), unused) << "though it came later";
}

TEST(PrefixIndex, SaysBeforehandWhyItWouldRefuse) {
  PrefixIndex index(room_for(2));
  EXPECT_EQ(index.refusal(StateKind::prompt, 201, StateTier::memory), Refusal::larger_than_budget);
  EXPECT_EQ(index.refusal(StateKind::grid, 200, StateTier::memory), Refusal::none);
  const EntryId pinned = keep(index, prompt(0, 40));
  index.pin(pinned);
  EXPECT_EQ(index.refusal(StateKind::grid, 200, StateTier::memory), Refusal::no_free_memory);
  EXPECT_EQ(index.refusal(StateKind::prompt, 200, StateTier::memory), Refusal::only_pinned_left);
  EXPECT_EQ(index.refusal(StateKind::prompt, 100, StateTier::memory), Refusal::none);
}

TEST(PrefixIndex, AnEvictionLooksAtAFewQueuesHoweverManyEntriesThereAre) {
  const auto looked_at = [](std::int32_t entries) {
    auto options = room_for(static_cast<std::uint64_t>(entries));
    PrefixIndex index(options);
    const auto one = [&](std::int32_t i) {
      const Tokens tokens = joined(prompt(-10, 10), prompt(i * 100, 1 + i * 37 % 90));
      serve(index, tokens);
    };
    for (std::int32_t i = 0; i < entries; ++i) one(i);
    const auto before = index.operations();
    for (std::int32_t i = 0; i < 1000; ++i) one(entries + i);
    return static_cast<double>(index.operations() - before) / 1000;
  };
  const double few = looked_at(1000);
  const double many = looked_at(20000);
  EXPECT_LT(many, 1.5 * few);
  EXPECT_LT(many, 500);
}

}  // namespace
}  // namespace krait::runtime
