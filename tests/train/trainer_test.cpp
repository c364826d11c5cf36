#include "krait/train/trainer.h"

#include <cmath>
#include <filesystem>

#include "krait/nn/compute_threads.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/size_class_pool.h"
#include "tests/train/trainer_testing.h"

namespace krait::train {
namespace {

using tests::SmallRun;

class EveryMixer : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Mixers, EveryMixer, ::testing::ValuesIn(mixer_names()),
                         [](const auto& of) { return of.param; });

// The same few examples again and again.
class OneBatch final : public BatchSource {
 public:
  explicit OneBatch(Batch batch) : batch_(std::move(batch)) {}
  Result<Batch> next() override { return batch_; }
  std::vector<std::uint64_t> place() const override { return {}; }
  Result<void> seek(std::span<const std::uint64_t>) override { return {}; }

 private:
  Batch batch_;
};

TEST_P(EveryMixer, LearnsABatchByHeart) {
  const SmallRun small(GetParam());
  OneBatch source(task_batch(*small.task, 3, 0, 4));
  Trainer trainer(*small.model, source,
                  {.schedule = {.shape = ScheduleShape::constant, .peak = 1e-2, .warm_up = 5, .steps = 200},
                   .optimiser = {.decay = 0.0}});
  const double first = trainer.step()->loss;
  double last = first;
  while (!trainer.is_done()) last = trainer.step()->loss;
  EXPECT_GT(first, 1.0);
  EXPECT_LT(last, 0.02 * first);
}

TEST_P(EveryMixer, GoesOnToTheBitFromACheckpoint) {
  SmallRun unbroken(GetParam());
  const std::vector<double> losses = unbroken.losses(8);

  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / ("trainer_test_" + GetParam());
  std::filesystem::remove_all(folder);
  {
    SmallRun begun(GetParam());
    begun.losses(3);
    SizeClassPool memory;
    auto writer = CheckpointWriter::open({.folder = folder}, nn::ComputePool(), memory);
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    const auto providers = begun.trainer->state_providers();
    std::vector<const StateProvider*> views;
    for (const auto& provider : providers) views.push_back(provider.get());
    ASSERT_TRUE((*writer)->save(begun.trainer->steps_done(), views).has_value());
    // What happens after the snapshot is not part of it.
    begun.losses(2);
    for (const CheckpointReport& report : (*writer)->finish()) ASSERT_TRUE(report.committed.has_value());
  }
  SmallRun resumed(GetParam());
  resumed.losses(1);  // whatever it was before
  const auto newest = open_newest_checkpoint(folder, nn::ComputePool());
  ASSERT_TRUE(newest.has_value()) << newest.error().message;
  const auto restored = resumed.trainer->restore(newest->checkpoint);
  ASSERT_TRUE(restored.has_value()) << restored.error().message;
  EXPECT_EQ(resumed.trainer->steps_done(), 3);
  EXPECT_EQ(resumed.losses(5), std::vector<double>(losses.begin() + 3, losses.end()));
  EXPECT_EQ(resumed.parameters(), unbroken.parameters());
  std::filesystem::remove_all(folder);
}

TEST_P(EveryMixer, DoesNotDependOnTheNumberOfThreads) {
  nn::set_compute_threads(1);
  SmallRun one(GetParam());
  const std::vector<double> losses = one.losses(4);
  nn::set_compute_threads(3);
  SmallRun three(GetParam());
  EXPECT_EQ(three.losses(4), losses);
  EXPECT_EQ(three.parameters(), one.parameters());
  nn::set_compute_threads(0);
}

// Two batches of four are the examples of one of eight; only the order of sums differs.
TEST(Trainer, AccumulatedBatchesAreOneLargerBatch) {
  SmallRun whole("mamba2", 8);
  TrainerOptions options;
  options.accumulation = 2;
  SmallRun parts("mamba2", 4, options);
  const std::vector<double> expected = whole.losses(4), actual = parts.losses(4);
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-4 * expected[i]);
}

TEST(Trainer, LeavesEverythingAsItWasWhereAGradientIsNotFinite) {
  SmallRun run("mamba");
  run.losses(1);
  const std::vector<float> before = run.parameters();
  {
    const at::NoGradGuard guard;
    run.model->parameters().front()[0][0] = std::nanf("");
  }
  const auto step = run.trainer->step();
  ASSERT_TRUE(step.has_value());
  EXPECT_FALSE(step->taken);
  const std::vector<float> after = run.parameters();
  for (std::size_t i = 1; i < before.size(); ++i) ASSERT_EQ(after[i], before[i]) << i;
}

TEST(Trainer, RefusesACheckpointOfAnotherModel) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "trainer_test_other";
  std::filesystem::remove_all(folder);
  SmallRun mamba("mamba"), mamba2("mamba2");
  SizeClassPool memory;
  auto writer = CheckpointWriter::open({.folder = folder}, nn::ComputePool(), memory);
  ASSERT_TRUE(writer.has_value());
  const auto providers = mamba.trainer->state_providers();
  std::vector<const StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  ASSERT_TRUE((*writer)->save(0, views).has_value());
  (*writer)->finish();
  const auto newest = open_newest_checkpoint(folder, nn::ComputePool());
  ASSERT_TRUE(newest.has_value());
  const auto restored = mamba2.trainer->restore(newest->checkpoint);
  ASSERT_FALSE(restored.has_value());
  EXPECT_NE(restored.error().message.find("backbone."), std::string::npos) << restored.error().message;
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace krait::train
