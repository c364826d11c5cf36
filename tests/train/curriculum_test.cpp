#include "krait/train/curriculum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "krait/nn/compute_threads.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/random_stream.h"
#include "krait/train/size_class_pool.h"

namespace krait::train {
namespace {

constexpr std::int64_t kSteps = 1000;

std::vector<Curriculum::Objective> objectives() {
  return {{"next_token", "next_token", 1}, {"copying", "copying", 3}, {"infilling", "infilling", 0}};
}

// Products this small gain nothing from a second thread.
class CurriculumTest : public ::testing::Test {
 protected:
  CurriculumTest() { nn::set_compute_threads(1); }
  ~CurriculumTest() override { nn::set_compute_threads(0); }
};

std::unique_ptr<Curriculum> make(const CurriculumOptions& options) {
  auto made = Curriculum::make(objectives(), options, kSteps);
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

// A run in which copying gets better as it is trained on, and the others do not: what its losses would be.
struct ImaginedRun {
  std::vector<double> losses = std::vector<double>(3, 3.0);
  void train(std::span<const double> mixture, Random& random) {
    losses[1] *= 1 - 0.25 * mixture[1];
    losses[0] *= 1 + 0.02 * (random.uniform() - 0.5);
  }
};

std::vector<CurriculumDecision> decide(Curriculum& curriculum, ImaginedRun& run, int from, int to) {
  for (int i = from; i < to; ++i) {
    const std::vector<double> mixture = curriculum.decide(i * 10, run.losses).mixture;
    Random random = random_stream(1, {static_cast<std::uint64_t>(i)});
    run.train(mixture, random);
  }
  return {curriculum.decisions().begin(), curriculum.decisions().end()};
}

TEST_F(CurriculumTest, NetworkLearnsAFunctionOfTheMixture) {
  RewardNetwork network({.inputs = 3, .rewards = 2, .seed = 4});
  Random random(1);
  std::vector<float> rows, rewards;
  for (int i = 0; i < 64; ++i) {
    const auto a = static_cast<float>(random.uniform()), b = static_cast<float>(random.uniform());
    rows.insert(rows.end(), {a, b, 1 - a});
    rewards.insert(rewards.end(), {a - b, a * b});
  }
  const double first = network.learn(rows, rewards);
  double last = first;
  for (int i = 0; i < 300; ++i) last = network.learn(rows, rewards);
  EXPECT_LT(last, 0.02 * first);
  const std::vector<float> predicted = network.predict(std::vector<float>{0.9F, 0.1F, 0.1F, 0.1F, 0.9F, 0.9F});
  EXPECT_NEAR(predicted[0], 0.8, 0.15);
  EXPECT_NEAR(predicted[2], -0.8, 0.15);
}

TEST_F(CurriculumTest, BeginsWithWhatIsGivenAndTrainsOnNothingOfWeightZero) {
  const auto curriculum = make({.every = 10, .candidates = 64, .best = 4});
  ImaginedRun run;
  const auto decisions = decide(*curriculum, run, 0, 12);
  EXPECT_EQ(decisions.front().mixture, (std::vector<double>{0.25, 0.75, 0}));
  EXPECT_TRUE(decisions.front().rewards.empty());
  for (const CurriculumDecision& decision : decisions) {
    EXPECT_EQ(decision.mixture[2], 0.0);
    EXPECT_NEAR(std::accumulate(decision.mixture.begin(), decision.mixture.end(), 0.0), 1.0, 1e-12);
  }
  EXPECT_NE(decisions[1].mixture, decisions[2].mixture);
}

// Rewards come from copying alone: without exploration its share rises above what chance gives, a half.
TEST_F(CurriculumTest, TurnsToWhatIsRewarded) {
  const auto curriculum =
      make({.every = 10, .exploration = 0.6, .candidates = 256, .best = 8, .updates = 16, .rate = 2e-3});
  ImaginedRun run;
  const auto decisions = decide(*curriculum, run, 0, 40);
  double share = 0;
  int chosen = 0;
  for (std::size_t i = 20; i < decisions.size(); ++i) {
    if (decisions[i].drawn) continue;
    share += decisions[i].mixture[1];
    ++chosen;
  }
  ASSERT_GT(chosen, 5);
  EXPECT_GT(share / chosen, 0.7);
}

// Where nothing gets better one mixture is expected to be worth as much as another: with a temperature that leaves the
// shares even, where the mean of the few best ones is what the network's noise prefers.
TEST_F(CurriculumTest, StaysEvenWhileNothingGetsBetter) {
  const auto furthest = [](const CurriculumOptions& options) {
    const auto curriculum = make(options);
    double most = 0;
    for (int i = 0; i < 30; ++i) {
      const double share = curriculum->decide(i * 10, std::vector<double>{3, 3, 3}).mixture[1];
      if (i > 0) most = std::max(most, std::abs(share - 0.5));
    }
    return most;
  };
  EXPECT_LT(furthest({.every = 10, .exploration = 0, .candidates = 256, .best = 256, .temperature = 1}), 0.03);
  EXPECT_GT(furthest({.every = 10, .exploration = 0, .candidates = 256, .best = 4}), 0.2);
}

TEST_F(CurriculumTest, WithATemperatureTurnsToWhatIsRewardedHoweverLittleItIs) {
  const auto curriculum = make({.every = 10,
                                .exploration = 0.6,
                                .candidates = 256,
                                .best = 256,
                                .temperature = 0.3,
                                .updates = 16,
                                .rate = 2e-3});
  // Copying falls by 2 % of itself at the most: rewards of a few hundredths.
  double copying = 3, share = 0;
  int chosen = 0;
  for (int i = 0; i < 40; ++i) {
    const CurriculumDecision& decision = curriculum->decide(i * 10, std::vector<double>{3, copying, 3});
    copying *= 1 - 0.02 * decision.mixture[1];
    if (i < 20 || decision.drawn) continue;
    share += decision.mixture[1];
    ++chosen;
  }
  ASSERT_GT(chosen, 5);
  EXPECT_GT(share / chosen, 0.7);
}

TEST_F(CurriculumTest, WhatIsLearnedIsWorthNothing) {
  const auto curriculum = make({.every = 10, .candidates = 32, .best = 4, .learned = 0.1});
  curriculum->decide(0, std::vector<double>{3, 0.5, 3});
  EXPECT_EQ(curriculum->decide(10, std::vector<double>{3, 0.05, 3}).rewards[1], 1.0);
  EXPECT_EQ(curriculum->decide(20, std::vector<double>{3, 0.01, 3}).rewards[1], 0.0);
  EXPECT_EQ(curriculum->decide(30, std::vector<double>{3, 0.09, 3}).rewards[1], 0.0);
}

TEST_F(CurriculumTest, IsTheSameForASeedOnAnyNumberOfThreads) {
  const CurriculumOptions options = {
      .every = 10, .exploration = 0.3, .candidates = 300, .best = 5, .updates = 4, .seed = 8};
  const auto one = make(options);
  ImaginedRun first, second, third;
  const auto expected = decide(*one, first, 0, 10);
  nn::set_compute_threads(3);
  const auto three = make(options);
  EXPECT_EQ(decide(*three, second, 0, 10), expected);
  nn::set_compute_threads(1);
  CurriculumOptions other = options;
  other.seed = 9;
  EXPECT_NE(decide(*make(other), third, 0, 10), expected);
}

TEST_F(CurriculumTest, GoesOnToTheBitFromACheckpoint) {
  const CurriculumOptions options = {.every = 10, .exploration = 0.3, .candidates = 128, .best = 5, .seed = 2};
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "curriculum_test";
  std::filesystem::remove_all(folder);
  ImaginedRun run;
  const auto unbroken = make(options);
  decide(*unbroken, run, 0, 7);
  SizeClassPool memory;
  auto writer = CheckpointWriter::open({.folder = folder}, nn::ComputePool(), memory);
  ASSERT_TRUE(writer) << writer.error().message;
  const auto providers = unbroken->state_providers();
  std::vector<const StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  ASSERT_TRUE((*writer)->save(70, views));
  (*writer)->finish();
  ImaginedRun rest = run;
  const auto expected = decide(*unbroken, run, 7, 14);

  const auto resumed = make(options);
  ImaginedRun elsewhere;
  decide(*resumed, elsewhere, 0, 3);  // whatever it was before
  const auto newest = open_newest_checkpoint(folder, nn::ComputePool());
  ASSERT_TRUE(newest) << newest.error().message;
  const auto restored = resumed->restore(newest->checkpoint);
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_EQ(decide(*resumed, rest, 7, 14), expected);

  auto more = objectives();
  more.push_back({"deshuffling", "deshuffling", 1});
  const auto other = Curriculum::make(more, options, kSteps);
  ASSERT_TRUE(other);
  EXPECT_FALSE((*other)->restore(newest->checkpoint));
  std::filesystem::remove_all(folder);
}

TEST_F(CurriculumTest, OutlivesLossesThatAreNoNumbers) {
  const auto curriculum = make({.every = 10, .exploration = 0.0, .candidates = 32, .best = 4});
  curriculum->decide(0, std::vector<double>{3, 3, 3});
  curriculum->decide(10, std::vector<double>{std::nan(""), 2, 3});
  const CurriculumDecision& last = curriculum->decide(20, std::vector<double>{3, 2, INFINITY});
  EXPECT_EQ(last.rewards[0], 1.0);
  EXPECT_EQ(last.rewards[2], -1.0);
  EXPECT_TRUE(std::isfinite(last.expected));
  EXPECT_NEAR(last.mixture[0] + last.mixture[1], 1.0, 1e-12);
}

TEST_F(CurriculumTest, HasSomethingToChooseFrom) {
  const auto made = Curriculum::make({{"a", "a", 1}, {"b", "b", 0}}, {.every = 1}, kSteps);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().message.find("two objectives"), std::string::npos);
}

}  // namespace
}  // namespace krait::train
