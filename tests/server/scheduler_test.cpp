// What the scheduler promises, on an engine that is a line and a clock that is a number.
#include "krait/server/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/server/scheduler_simulation.h"

namespace krait::server {
namespace {

using tests::SchedulerSimulation;
using Job = SchedulerSimulation::Job;
using Id = Scheduler::Id;

// About a model of 130 million weights on a few cores.
constexpr CostModel::Line kEngine{.base = 0.020, .row = 0.001, .token = 0.0005};

// (sum x)^2 / (n sum x^2): 1 when all had the same, 1/n when one had all.
double jain(const std::map<std::string, std::int64_t>& served) {
  double sum = 0;
  double squares = 0;
  for (const auto& [key, tokens] : served) {
    sum += static_cast<double>(tokens);
    squares += static_cast<double>(tokens) * static_cast<double>(tokens);
  }
  return sum * sum / (static_cast<double>(served.size()) * squares);
}

double percentile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  const auto at = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size()))) - 1;
  return values.at(std::min(at, values.size() - 1));
}

std::vector<double> gaps(const Job& job, double from, double to) {
  std::vector<double> result;
  for (std::size_t i = 1; i < job.said.size(); ++i) {
    if (job.said[i] > from && job.said[i - 1] < to) result.push_back(job.said[i] - job.said[i - 1]);
  }
  return result;
}

TEST(PromptCut, ReadsEverythingInAlignedPiecesAndLeavesNoSingleToken) {
  for (const std::int64_t grid : {1, 2, 16, 64}) {
    for (std::int64_t all = 1; all <= 300; ++all) {
      for (const std::int64_t most : {1, 15, 16, 17, 63, 64, 65, 100, 1000}) {
        std::int64_t left = all;
        while (left > 0) {
          std::int64_t cut = prompt_cut(left, most, grid);
          ASSERT_LE(cut, std::min(left, most));
          if (cut == 0) cut = least_prompt_cut(left, grid);
          ASSERT_GT(cut, 0);
          left -= cut;
          ASSERT_GE(left, 0);
          if (left > 0) {
            EXPECT_EQ((all - left) % grid, 0) << all << " tokens, " << most << " at most, grid " << grid;
            EXPECT_TRUE(grid == 1 || left != 1) << all << " tokens, " << most << " at most, grid " << grid;
          }
        }
      }
    }
  }
}

// One key keeps 32 requests there, seven keep two each; all of like sizes.
std::map<std::string, std::int64_t> served_beside_a_greedy_key(bool fair) {
  SchedulerSimulation simulation({.slots = 8, .fair = fair}, kEngine);
  Random random(5);
  const auto submit = [&](const std::string& key) {
    simulation.submit({.key = key,
                       .prompt = 50 + static_cast<std::int64_t>(random.next() % 200),
                       .tokens = 20 + static_cast<std::int64_t>(random.next() % 100)});
  };
  simulation.on_end = [&](const Job& job) { submit(job.key); };
  for (int i = 0; i < 32; ++i) submit("greedy");
  for (int key = 0; key < 7; ++key) {
    for (int i = 0; i < 2; ++i) submit("modest " + std::to_string(key));
  }
  simulation.run_until(900);
  return simulation.served;
}

TEST(Scheduler, AGreedyKeyGetsNoMoreThanOthers) {
  const auto served = served_beside_a_greedy_key(true);
  ASSERT_EQ(served.size(), 8U);
  EXPECT_GE(jain(served), 0.95);
}

TEST(Scheduler, WithoutFairnessItDoes) { EXPECT_LT(jain(served_beside_a_greedy_key(false)), 0.6); }

TEST(Scheduler, AKeyAloneHasAllOfTheEngine) {
  SchedulerSimulation simulation({.slots = 8}, kEngine, 0);
  for (int i = 0; i < 8; ++i) simulation.submit({.key = "one", .prompt = 64, .tokens = 100});
  simulation.run_until(1e9);
  // 8 prompts of 64 tokens, then a hundred steps of eight; pieces of prompts beside decodes cost no step of their own.
  const double least = 8 * 64 * kEngine.token + 100 * (kEngine.base + 8 * kEngine.row);
  EXPECT_LE(simulation.now, 1.15 * least);
}

struct Stall {
  double usual;  // a step of the decodes alone
  double p99;    // of times between tokens, while the prompt is read
  double prompt_seconds;
};

Stall stall_by_a_long_prompt(bool chunked, double noise) {
  // What the scheduler believes at first is wrong by far: it has the decodes before to learn what those cost, and the
  // first pieces of the prompt to learn what a token costs.
  SchedulerSimulation simulation({.slots = 32, .chunked = chunked}, kEngine, noise);
  std::vector<Id> decoding;
  for (int i = 0; i < 16; ++i) {
    decoding.push_back(simulation.submit({.key = std::to_string(i), .prompt = 32, .tokens = 4000}));
  }
  simulation.run_until(10);
  const double arrived = simulation.now;
  const Id prompt = simulation.submit({.key = "long", .prompt = 32768, .tokens = 1});
  while (simulation.jobs.at(prompt).ended < 0) simulation.round();
  std::vector<double> all;
  for (const Id id : decoding) {
    const auto of = gaps(simulation.jobs.at(id), arrived, simulation.now);
    all.insert(all.end(), of.begin(), of.end());
  }
  return {kEngine.base + 16 * kEngine.row, percentile(all, 0.99), simulation.now - arrived};
}

TEST(Scheduler, ALongPromptHoldsDecodesUpByNoMoreThanTheFactor) {
  EXPECT_LE(stall_by_a_long_prompt(true, 0).p99, 2 * stall_by_a_long_prompt(true, 0).usual);
  // Measured steps vary, and so does the line through them.
  const Stall noisy = stall_by_a_long_prompt(true, 0.05);
  EXPECT_LE(noisy.p99, 2 * 1.05 * noisy.usual);
  // 512 pieces of 64 tokens, each with a step of the decodes.
  EXPECT_LE(noisy.prompt_seconds, 1.1 * 512 * (noisy.usual + 64 * kEngine.token));
}

TEST(Scheduler, WithoutChunksItHoldsThemUpForAllOfItself) {
  const Stall stall = stall_by_a_long_prompt(false, 0);
  EXPECT_GE(stall.p99, 32768 * kEngine.token);
}

TEST(Scheduler, WhereTheLeastPieceIsTooLongDecodesAreSlowedByTheFactorInTheMean) {
  // 64 tokens cost 0.64 s, a step of four decodes 0.024 s.
  SchedulerSimulation simulation({.slots = 8}, {.base = 0.02, .row = 0.001, .token = 0.01}, 0);
  std::vector<Id> decoding;
  for (int i = 0; i < 4; ++i) decoding.push_back(simulation.submit({.key = "k", .prompt = 16, .tokens = 100000}));
  simulation.run_until(20);
  const double from = simulation.now;
  const Id prompt = simulation.submit({.key = "long", .prompt = 2000, .tokens = 1});
  while (simulation.jobs.at(prompt).ended < 0) simulation.round();
  const auto times = gaps(simulation.jobs.at(decoding[0]), from, simulation.now);
  const double mean = (simulation.now - from) / static_cast<double>(times.size());
  EXPECT_LE(mean, 2.1 * 0.024);
  EXPECT_LE(*std::ranges::max_element(times), 0.024 + 65 * 0.01 + 1e-9);
}

TEST(Scheduler, TheGreaterPriorityGoesAtOnceAndTheLesserIsParkedAndResumed) {
  SchedulerSimulation simulation({.slots = 4}, kEngine);
  std::vector<Id> low;
  for (int i = 0; i < 4; ++i) low.push_back(simulation.submit({.key = "low", .prompt = 32, .tokens = 200}));
  simulation.run_until(1);
  const Id high = simulation.submit({.key = "high", .priority = 5, .prompt = 32, .tokens = 20});
  const double at = simulation.now;
  ASSERT_TRUE(simulation.round());
  EXPECT_EQ(simulation.jobs.at(high).began, at);
  EXPECT_EQ(simulation.scheduler.parked(), 1);
  simulation.run_until(1e9);
  int parkings = 0;
  for (const Id id : low) {
    parkings += simulation.jobs.at(id).parkings;
    EXPECT_EQ(simulation.jobs.at(id).said.size(), 200U);
    EXPECT_GT(simulation.jobs.at(id).ended, simulation.jobs.at(high).ended);
  }
  EXPECT_EQ(parkings, 1);
  EXPECT_TRUE(simulation.scheduler.empty());
}

TEST(Scheduler, NobodyIsParkedForAnotherOfTheSameKeyAndPriority) {
  SchedulerSimulation simulation({.slots = 4}, kEngine);
  for (int i = 0; i < 40; ++i) simulation.submit({.key = "k", .prompt = 32, .tokens = 50});
  simulation.run_until(1e9);
  double last = -1;
  for (const auto& [id, job] : simulation.jobs) {
    EXPECT_EQ(job.parkings, 0);
    EXPECT_GE(job.began, last);  // in the order they came
    last = job.began;
  }
}

TEST(Scheduler, NobodyStarvesUnderAFloodOfGreaterPriority) {
  SchedulerSimulation simulation({.slots = 4, .aging_seconds = 5}, kEngine);
  simulation.on_end = [&](const Job& job) {
    if (job.priority > 0) simulation.submit(Job{.key = job.key, .priority = job.priority, .prompt = 32, .tokens = 50});
  };
  for (int i = 0; i < 12; ++i) simulation.submit({.key = "flood", .priority = 2, .prompt = 32, .tokens = 50});
  const Id low = simulation.submit({.key = "low", .priority = 0, .prompt = 100, .tokens = 40});
  simulation.run_until(400);
  EXPECT_GE(simulation.jobs.at(low).ended, 0) << "said " << simulation.jobs.at(low).said.size();
}

TEST(Scheduler, EveryOneOfManyKeysGetsItsTurn) {
  SchedulerSimulation simulation({.slots = 4}, kEngine);
  for (int i = 0; i < 100; ++i) simulation.submit({.key = std::to_string(i), .prompt = 40, .tokens = 30});
  simulation.run_until(1e9);
  for (const auto& [id, job] : simulation.jobs) EXPECT_EQ(job.said.size(), 30U) << id;
}

TEST(Scheduler, BeginsNoMoreThanThereIsMemoryFor) {
  SchedulerSimulation simulation({.slots = 8}, kEngine);
  for (int i = 0; i < 8; ++i) simulation.submit({.key = "k", .prompt = 32, .tokens = 50});
  simulation.begin_at_most = 3;
  ASSERT_TRUE(simulation.round());
  EXPECT_EQ(simulation.scheduler.running(), 3);
  simulation.begin_at_most = 0;
  for (int i = 0; i < 10; ++i) simulation.round();
  EXPECT_EQ(simulation.scheduler.running(), 3);
  EXPECT_EQ(simulation.scheduler.waiting(), 5);
}

TEST(Scheduler, OneWithoutMemoryIsSetAsideUntilItIsTimeAndOthersGoOn) {
  SchedulerSimulation simulation({.slots = 2}, kEngine);
  const Id first = simulation.submit({.key = "k", .prompt = 16, .tokens = 1000});
  const Id second = simulation.submit({.key = "k", .prompt = 16, .tokens = 1000});
  simulation.run_until(1);
  simulation.scheduler.park(second, simulation.now, simulation.now + 1);
  const auto before = simulation.jobs.at(second).said.size();
  simulation.run_until(simulation.now + 0.9);
  EXPECT_EQ(simulation.jobs.at(second).said.size(), before);
  EXPECT_GT(simulation.jobs.at(first).said.size(), before);
  simulation.run_until(simulation.now + 0.5);
  EXPECT_GT(simulation.jobs.at(second).said.size(), before);
}

TEST(Scheduler, RowsOfLogitsAreBoundedAndAllTakeTurns) {
  SchedulerSimulation simulation({.slots = 40, .most_step_rows = 16}, kEngine);
  for (int i = 0; i < 40; ++i) simulation.submit({.key = "k", .prompt = 16, .tokens = 100000});
  simulation.run_until(60);  // all have read their prompts
  ASSERT_EQ(simulation.scheduler.prefilling(), 0);
  std::map<Id, std::size_t> before;
  for (const auto& [id, job] : simulation.jobs) before[id] = job.said.size();
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(simulation.round());
    EXPECT_LE(simulation.last_step.size(), 16U);
  }
  for (const auto& [id, job] : simulation.jobs)
    EXPECT_NEAR(static_cast<double>(job.said.size() - before[id]), 80, 1) << id;
}

TEST(Scheduler, PredictedWaitIsAboutWhatIsWaited) {
  for (const int ahead : {16, 40, 100}) {
    SchedulerSimulation simulation({.slots = 8, .most_waiting = 1000, .most_wait_seconds = 1e9}, kEngine, 0);
    for (int i = 0; i < 8; ++i) simulation.submit({.key = "k", .prompt = 128, .tokens = 100});
    simulation.run_until(20);  // has seen what steps cost and how long replies are
    for (int i = 0; i < ahead; ++i) simulation.submit({.key = "k", .prompt = 128, .tokens = 100});
    const double predicted = simulation.scheduler.predicted_wait({.key = "k", .prompt_tokens = 128, .max_tokens = 100});
    const Id last = simulation.submit({.key = "k", .prompt = 128, .tokens = 100});
    const double from = simulation.now;
    simulation.run_until(1e9);
    const double waited = simulation.jobs.at(last).began - from;
    EXPECT_GT(predicted, 0.7 * waited) << ahead;
    EXPECT_LT(predicted, 1.4 * waited) << ahead;
  }
}

TEST(Scheduler, NobodyWaitsWhileSlotsAreFree) {
  SchedulerSimulation simulation({.slots = 8}, kEngine);
  for (int i = 0; i < 7; ++i) simulation.submit({.key = "k", .prompt = 16, .tokens = 100});
  simulation.round();
  EXPECT_EQ(simulation.scheduler.predicted_wait({.key = "k", .max_tokens = 10}), 0);
  simulation.submit({.key = "k", .prompt = 16, .tokens = 100});
  simulation.round();
  EXPECT_GT(simulation.scheduler.predicted_wait({.key = "k", .max_tokens = 10}), 0);
  // Another key does not stand behind the first one's queue.
  for (int i = 0; i < 100; ++i) simulation.submit({.key = "k", .prompt = 16, .tokens = 100});
  EXPECT_LT(simulation.scheduler.predicted_wait({.key = "other", .max_tokens = 10}),
            simulation.scheduler.predicted_wait({.key = "k", .max_tokens = 10}) / 4);
}

TEST(Scheduler, RefusesWhoWouldWaitTooLong) {
  SchedulerSimulation by_number({.slots = 2, .most_waiting = 5}, kEngine);
  for (int i = 0; i < 7; ++i) {
    EXPECT_TRUE(by_number.scheduler.admits({.key = "k", .max_tokens = 10})) << i;
    by_number.submit({.key = "k", .prompt = 16, .tokens = 10});
    if (i < 2) by_number.round();
  }
  EXPECT_FALSE(by_number.scheduler.admits({.key = "k", .max_tokens = 10}));

  SchedulerSimulation by_time({.slots = 2, .most_wait_seconds = 20}, kEngine);
  int taken = 0;
  while (taken < 500 && by_time.scheduler.admits({.key = "k", .max_tokens = 100})) {
    by_time.submit({.key = "k", .prompt = 16, .tokens = 100});
    by_time.round();
    ++taken;
  }
  EXPECT_GT(taken, 4);
  EXPECT_LT(taken, 100);
  by_time.run_until(1e9);
  for (const auto& [id, job] : by_time.jobs) EXPECT_LT(job.began - job.arrived, 40) << id;
}

}  // namespace
}  // namespace krait::server
