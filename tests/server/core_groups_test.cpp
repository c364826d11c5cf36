// Prompts and decodes together or apart: how that is written, which of the two the controller takes, and what a lane's
// step may hold. On an engine that is three lines and a clock that is a number.
#include "krait/server/core_groups.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "krait/server/group_controller.h"
#include "tests/server/scheduler_simulation.h"

namespace krait::server {
namespace {

using tests::SchedulerSimulation;
using Job = SchedulerSimulation::Job;
using Id = Scheduler::Id;
using Choice = CoreGroups::Choice;

// Eight cores. A prompt's token costs by the cores, a decode's base is the memory's speed, which two cores nearly use
// up, and its row costs by the cores.
constexpr int kCores = 8;
constexpr CostModel::Line kMixed{.base = 0.020, .row = 0.001, .token = 0.0005};
constexpr CostModel::Line kPrompts{.base = 0.022, .row = 0.001, .token = 0.0005 * 8 / 6};
constexpr CostModel::Line kDecodes{.base = 0.022, .row = 0.001 * 8 / 3, .token = 0.0005 * 8 / 2};

CoreGroups groups_of(std::string_view text) { return parse_core_groups(text, kCores).value(); }

TEST(CoreGroups, AreReadAndWritten) {
  EXPECT_EQ(groups_of("together"), CoreGroups{});
  EXPECT_EQ(groups_of("6:2"), (CoreGroups{Choice::apart, 6, 2}));
  EXPECT_EQ(groups_of("1:1"), (CoreGroups{Choice::apart, 1, 1}));
  EXPECT_EQ(groups_of("auto"), (CoreGroups{Choice::automatic, 6, 2}));
  EXPECT_EQ(parse_core_groups("auto", 2).value(), (CoreGroups{Choice::automatic, 1, 1}));
  for (const std::string_view text : {"together", "auto", "6:2", "1:7"}) EXPECT_EQ(to_string(groups_of(text)), text);
}

TEST(CoreGroups, WhatIsNoneIsRefusedWithTheValue) {
  for (const std::string_view text : {"", "apart", "3", "3:", ":3", "3:x", "3:1:1", " 3:1", "-1:3", "0:3", "3:0", "7:2",
                                      "9:1", "99999999999:1", "2147483647:2147483647"}) {
    const auto groups = parse_core_groups(text, kCores);
    ASSERT_FALSE(groups) << text;
    EXPECT_EQ(groups.error().code, ErrorCode::kInvalidArgument) << text;
  }
  EXPECT_NE(parse_core_groups("fast", kCores).error().message.find("\"fast\""), std::string::npos);
  EXPECT_EQ(parse_core_groups("7:2", kCores).error().message,
            "[core groups] 7 for prompts and 2 for decodes: each needs one, and there are 8 in all");
  EXPECT_FALSE(parse_core_groups("auto", 1));
  EXPECT_TRUE(parse_core_groups("together", 1));
}

TEST(FlowRate, IsTheRateOfWhatFlowsAndFades) {
  FlowRate rate(10);
  EXPECT_EQ(rate.per_second(5), 0);
  for (int i = 0; i < 2000; ++i) rate.add(3, 100 + 0.05 * i);
  EXPECT_NEAR(rate.per_second(200), 60, 0.01 * 60);
  EXPECT_NEAR(rate.per_second(210), 60 / std::exp(1.0), 0.01 * 60);
  FlowRate young(10);  // has seen less than it remembers
  for (int i = 0; i < 20; ++i) young.add(3, 0.05 * i);
  EXPECT_NEAR(young.per_second(1), 60, 0.06 * 60);
}

// 20 steps a second with 10 decodes and a prompt of 25 tokens each: y = 200, x = 20, l = 500.
GroupController after_a_flow(const GroupController::Options& options) {
  GroupController controller(options);
  for (int i = 0; i <= 2000; ++i) {
    controller.stepped(LaneRole::mixed, {.decodes = 10, .prompt_tokens = 25}, 1, 0.05 * i);
    controller.sample({.decodes = 10, .backlog = 0}, 0.05 * i);
  }
  return controller;
}

TEST(GroupController, PredictsByTheLinesAndTheFlow) {
  const GroupController controller = after_a_flow({});
  const GroupController::Lines lines = {kMixed, kPrompts, kDecodes};
  // t = 30 ms, n = 60, so R = 60 / 60 ms = 1000 and half of the steps have a piece; 25 / (1 - 0.5) / 1000 s.
  const auto together = controller.predict(false, lines, 100);
  EXPECT_NEAR(together.token_seconds, 0.045, 0.02 * 0.045);
  EXPECT_NEAR(together.first_token_seconds, 0.05, 0.02 * 0.05);
  EXPECT_NEAR(together.sequences, 20 * 0.05 + 200 * 0.045, 0.03 * 10);
  const auto apart = controller.predict(true, lines, 100);
  const double rate = 512 / (kPrompts.base + 512 * kPrompts.token);
  const double first = 25 / (1 - 500 / rate) / rate;
  EXPECT_NEAR(apart.token_seconds, kDecodes.base + 10 * kDecodes.row, 0.02 * 0.05);
  EXPECT_NEAR(apart.first_token_seconds, first, 0.02 * first);
  EXPECT_NEAR(apart.sequences, 20 * first + 200 * (kDecodes.base + 10 * kDecodes.row), 0.03 * 10);
  // Where pieces may take nothing, prompts beside decodes are never read.
  EXPECT_EQ(after_a_flow({.stall_factor = 1}).predict(false, lines, 100).sequences,
            std::numeric_limits<double>::infinity());
}

TEST(GroupController, WhatStandsThereCountsWhereTheQueueGrows) {
  GroupController controller = after_a_flow({});
  const GroupController::Lines lines = {kMixed, kPrompts, kDecodes};
  for (int i = 0; i <= 2000; ++i) controller.sample({.decodes = 10, .backlog = 20'000}, 100 + 0.001 * i);
  for (int i = 0; i <= 2000; ++i) controller.sample({.decodes = 10, .backlog = 20'000}, 102 + 0.05 * i);
  EXPECT_NEAR(controller.predict(false, lines, 202).first_token_seconds, 20'000 / 1000.0, 0.02 * 20);
}

TEST(Scheduler, WhatIsInAStepIsInNoOtherUntilItIsReleased) {
  Scheduler scheduler({.slots = 8});
  scheduler.set_core_groups(groups_of("6:2"), kCores);
  EXPECT_TRUE(scheduler.apart());
  for (Id id = 1; id <= 4; ++id) scheduler.add(id, {.key = "k", .prompt_tokens = 100, .max_tokens = 10}, 0);
  scheduler.select(0, 100);
  for (Id id = 1; id <= 4; ++id) scheduler.prompt_left(id, 100, 100);
  EXPECT_TRUE(scheduler.step(0, LaneRole::decodes).empty());
  const auto reading = scheduler.step(0, LaneRole::prompts);
  ASSERT_EQ(reading.size(), 4U);
  EXPECT_TRUE(scheduler.step(0, LaneRole::prompts).empty());
  EXPECT_TRUE(scheduler.step(0, LaneRole::mixed).empty());
  scheduler.stepped(reading, 0.1, 0.1, LaneRole::prompts);
  // Their prompts are read, and what they say is not told yet.
  EXPECT_TRUE(scheduler.step(0.1, LaneRole::decodes).empty());
  scheduler.remove(4);
  scheduler.release(reading);
  const auto decoding = scheduler.step(0.1, LaneRole::decodes);
  EXPECT_EQ(decoding.size(), 3U);
  for (const Scheduler::Work& part : decoding) EXPECT_EQ(part.prompt_tokens, 0);
  // One that is set aside in its step is not run again before that has ended.
  scheduler.park(1, 0.2, 0);
  EXPECT_TRUE(scheduler.select(0.2, 100).run.empty());
  scheduler.stepped(decoding, 0.1, 0.2, LaneRole::decodes);
  scheduler.release(decoding);
  EXPECT_EQ(scheduler.select(0.3, 100).run, std::vector<Id>{1});
}

TEST(Scheduler, ApartAPromptDoesNotHoldDecodesUp) {
  SchedulerSimulation simulation({.slots = 32}, kMixed, 0);
  simulation.set_core_groups(groups_of("6:2"), kCores, kPrompts, kDecodes);
  std::vector<Id> decoding;
  for (int i = 0; i < 16; ++i) {
    decoding.push_back(simulation.submit({.key = std::to_string(i), .prompt = 32, .tokens = 4000}));
  }
  simulation.run_until(20);
  const double arrived = simulation.now;
  const Id prompt = simulation.submit({.key = "long", .prompt = 32768, .tokens = 1});
  while (simulation.jobs.at(prompt).ended < 0) ASSERT_TRUE(simulation.round());
  const double usual = kDecodes.base + 16 * kDecodes.row;
  for (const Id id : decoding) {
    const auto& said = simulation.jobs.at(id).said;
    for (std::size_t i = 1; i < said.size(); ++i) {
      // A decode alone in its step is faster; nothing is slower.
      if (said[i - 1] < arrived) continue;
      EXPECT_LE(said[i] - said[i - 1], usual + 1e-9);
    }
  }
  // Whole chunks, one after the other; the lane may have been busy when it came.
  const double chunks = 32768 / 512 * (kPrompts.base + 512 * kPrompts.token);
  EXPECT_GE(simulation.now - arrived, chunks - 1e-6);
  EXPECT_LE(simulation.now - arrived, chunks + kPrompts.base + 512 * kPrompts.token + usual);
}

TEST(Scheduler, LanesHaveLinesOfTheirOwn) {
  SchedulerSimulation simulation({.slots = 32}, kMixed, 0.05);
  simulation.set_core_groups(groups_of("6:2"), kCores, kPrompts, kDecodes);
  simulation.on_end = [&](const Job& job) {
    simulation.submit({.key = job.key, .prompt = job.prompt, .tokens = job.tokens});
  };
  for (int i = 0; i < 16; ++i) {
    simulation.submit({.key = "k", .prompt = 50 + 37 * (i % 11), .tokens = 20 + 13 * (i % 7)});
  }
  simulation.run_until(120);
  const CostModel& decodes = simulation.scheduler.cost(LaneRole::decodes);
  const CostModel& prompts = simulation.scheduler.cost(LaneRole::prompts);
  EXPECT_NEAR(decodes.seconds({.decodes = 14}), kDecodes.base + 14 * kDecodes.row, 0.1 * 0.06);
  EXPECT_NEAR(prompts.seconds({.prompt_tokens = 200}), kPrompts.base + 200 * kPrompts.token, 0.15 * 0.16);
  EXPECT_EQ(simulation.scheduler.cost(LaneRole::mixed).line().base, CostModel::Line{}.base);  // it had no step
}

struct Flow {
  double token_seconds = 0;   // the mean, of the second half
  double prompt_seconds = 0;  // of the prompts that came by themselves, from coming to being read
  double share_apart = 0;     // of the second half's time
  std::uint64_t switches = 0;
};

// `writers` that are there all the time, each with a reply of 200 tokens to a short prompt, and prompts of `length`
// tokens that come every `every` seconds.
Flow serve(const CoreGroups& groups, int writers, std::int64_t length, double every, double seconds = 600) {
  SchedulerSimulation simulation({.slots = 32, .most_waiting = 100000, .most_wait_seconds = 1e9}, kMixed, 0.05);
  simulation.set_core_groups(groups, kCores, kPrompts, kDecodes);
  std::set<Id> prompts;
  simulation.on_end = [&](const Job& job) {
    if (job.tokens > 1) simulation.submit({.key = job.key, .prompt = job.prompt, .tokens = job.tokens});
  };
  for (int i = 0; i < writers; ++i) simulation.submit({.key = fmt::format("w{}", i), .prompt = 32, .tokens = 200});
  double due = 5, before = 0, apart = 0;
  simulation.run_until(seconds, [&](double now) {
    if (simulation.scheduler.apart() && now > seconds / 2) apart += now - before;
    before = now;
    for (; due <= now; due += every) {
      prompts.insert(simulation.submit({.key = fmt::format("p{}", prompts.size()), .prompt = length, .tokens = 1}));
    }
  });
  Flow flow{.share_apart = apart / (seconds / 2), .switches = simulation.scheduler.group_switches()};
  double gaps = 0, reads = 0;
  std::int64_t gap_count = 0, read_count = 0;
  for (const auto& [id, job] : simulation.jobs) {
    if (prompts.contains(id)) {
      // Those that are still read count for what they took so far.
      const double end = job.ended < 0 ? simulation.now : job.ended;
      if (end < seconds / 2) continue;
      reads += end - job.arrived;
      ++read_count;
      continue;
    }
    for (std::size_t i = 1; i < job.said.size(); ++i) {
      if (job.said[i - 1] < seconds / 2) continue;
      gaps += job.said[i] - job.said[i - 1];
      ++gap_count;
    }
  }
  flow.token_seconds = gaps / static_cast<double>(gap_count);
  flow.prompt_seconds = reads / static_cast<double>(read_count);
  return flow;
}

// 1000 tokens of prompts a second beside 16 that write. Together, pieces of 64 tokens in steps of 68 ms read 940 a
// second, so the queue grows; on six cores of their own prompts are read at 1410 a second, and a token takes 65 ms.
TEST(GroupController, PartsLongPromptsFromManyWriters) {
  const Flow together = serve(groups_of("together"), 16, 8192, 8192.0 / 1000);
  const Flow apart = serve(groups_of("6:2"), 16, 8192, 8192.0 / 1000);
  EXPECT_EQ(together.share_apart, 0);
  EXPECT_EQ(apart.switches, 1U);
  EXPECT_LT(apart.prompt_seconds, 0.7 * together.prompt_seconds);
  EXPECT_LT(apart.token_seconds, 1.1 * together.token_seconds);
  const Flow automatic = serve(groups_of("auto"), 16, 8192, 8192.0 / 1000);
  EXPECT_GT(automatic.share_apart, 0.8);  // together is tried again now and then
  EXPECT_LT(automatic.prompt_seconds, 0.8 * together.prompt_seconds);
  EXPECT_LT(automatic.token_seconds, 1.1 * together.token_seconds);
}

// A prompt of 128 tokens every five seconds beside four that write: apart, each token takes 33 ms in the place of 24,
// and the prompts have little of that.
TEST(GroupController, LeavesShortPromptsWithFewWriters) {
  const Flow together = serve(groups_of("together"), 4, 128, 5);
  const Flow apart = serve(groups_of("6:2"), 4, 128, 5);
  EXPECT_GT(apart.token_seconds, 1.2 * together.token_seconds);
  const Flow automatic = serve(groups_of("auto"), 4, 128, 5);
  EXPECT_LT(automatic.share_apart, 0.1);  // it is tried again now and then
  EXPECT_LT(automatic.token_seconds, 1.05 * together.token_seconds);
}

// At the point where both are equal, noise does not have it go to and fro: two switches for each trial and few beside.
TEST(GroupController, DoesNotGoToAndFro) {
  for (const double rate : {300, 500, 600, 700}) {
    const Flow flow = serve(groups_of("auto"), 12, 2048, 2048 / rate);
    EXPECT_LE(flow.switches, 2 * (600 / 60) + 10) << rate;
  }
}

TEST(GroupController, GoesBackWhenNobodyBringsPrompts) {
  SchedulerSimulation simulation({.slots = 32, .most_waiting = 100000, .most_wait_seconds = 1e9}, kMixed, 0.05);
  simulation.set_core_groups(groups_of("auto"), kCores, kPrompts, kDecodes);
  for (int i = 0; i < 16; ++i) simulation.submit({.key = std::to_string(i), .prompt = 32, .tokens = 100000});
  double due = 5;
  bool was_apart = false;
  simulation.run_until(400, [&](double now) {
    was_apart |= now > 100 && simulation.scheduler.apart();
    for (; due <= now && due < 200; due += 9.1) simulation.submit({.key = "p", .prompt = 8192, .tokens = 1});
  });
  EXPECT_TRUE(was_apart);
  EXPECT_FALSE(simulation.scheduler.apart());
}

TEST(GroupController, WhatIsAskedForHoldsWhateverTheLoad) {
  SchedulerSimulation simulation({.slots = 8}, kMixed);
  for (int i = 0; i < 8; ++i) simulation.submit({.key = "k", .prompt = 3000, .tokens = 3000});
  simulation.run_until(5);
  EXPECT_FALSE(simulation.scheduler.apart());
  simulation.set_core_groups(groups_of("4:4"), kCores, kPrompts, kDecodes);
  simulation.run_until(10);
  EXPECT_TRUE(simulation.scheduler.apart());
  EXPECT_EQ(simulation.scheduler.cores_of(LaneRole::prompts), 4);
  simulation.set_core_groups(groups_of("together"), kCores, kPrompts, kDecodes);
  simulation.run_until(1e9);
  EXPECT_FALSE(simulation.scheduler.apart());
  EXPECT_EQ(simulation.scheduler.group_switches(), 2U);
  for (const auto& [id, job] : simulation.jobs) EXPECT_EQ(job.said.size(), 3000U);
}

TEST(GroupController, KeysPayForTheCoresThatTheyHad) {
  // One key reads all the time, one writes all the time, as many slots each; apart they have six cores and two.
  SchedulerSimulation simulation({.slots = 2}, kMixed, 0);
  simulation.set_core_groups(groups_of("6:2"), kCores, kPrompts, kDecodes);
  const Id reader = simulation.submit({.key = "reader", .prompt = 1'000'000, .tokens = 1});
  const Id writer = simulation.submit({.key = "writer", .prompt = 16, .tokens = 1'000'000});
  simulation.run_until(60);
  const Id other = simulation.submit({.key = "writer", .prompt = 16, .tokens = 10});
  const Id third = simulation.submit({.key = "reader", .prompt = 16, .tokens = 10});
  simulation.run_until(62);
  // The reader had three times as much, so the writer's next one goes first and parks what it reads.
  EXPECT_GE(simulation.jobs.at(other).began, 0);
  EXPECT_EQ(simulation.jobs.at(third).began, -1);
  EXPECT_GE(simulation.jobs.at(reader).parkings, 1);
  EXPECT_EQ(simulation.jobs.at(writer).parkings, 0);
}

}  // namespace
}  // namespace krait::server
