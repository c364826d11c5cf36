// Parameters taken from an earlier run's checkpoint, or from a model that was exported.
#include "krait/train/initial_parameters.h"

#include "krait/nn/compute_threads.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/size_class_pool.h"
#include "tests/formats/temporary_folder.h"
#include "tests/train/trainer_testing.h"

namespace krait::train {
namespace {

using tests::SmallRun;

TrainedModelOptions small_model(std::uint64_t seed) {
  return {.mixers = {"mamba2"}, .vocabulary = 11, .width = 16, .layers = 2, .states = 8, .head_width = 8, .seed = seed};
}

std::shared_ptr<nn::LanguageModel> model_of(const TrainedModelOptions& options) {
  auto made = make_model(options);
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

void save(const Trainer& trainer, const std::filesystem::path& folder) {
  SizeClassPool memory;
  auto writer = CheckpointWriter::open({.folder = folder}, nn::ComputePool(), memory);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  const auto providers = trainer.state_providers();
  std::vector<const StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  ASSERT_TRUE((*writer)->save(trainer.steps_done(), views).has_value());
  for (const CheckpointReport& report : (*writer)->finish()) ASSERT_TRUE(report.committed.has_value());
}

bool same(const torch::nn::Module& a, const torch::nn::Module& b) {
  const auto left = a.parameters(), right = b.parameters();
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (!at::equal(left[i], right[i])) return false;
  }
  return true;
}

class FromACheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    run_.losses(3);
    save(*run_.trainer, folder_.path() / "run" / "checkpoints");
  }
  // Like the run's, with another beginning.
  std::shared_ptr<nn::LanguageModel> other(bool tied = true, std::int64_t layers = 2, std::int64_t width = 16) const {
    return model_of({.mixers = {"mamba2"},
                     .vocabulary = run_.task->vocabulary(),
                     .width = width,
                     .layers = layers,
                     .states = 8,
                     .head_width = 8,
                     .tied = tied,
                     .seed = 99});
  }
  tests::TemporaryFolder folder_;
  SmallRun run_{"mamba2"};
};

TEST_F(FromACheckpoint, TakesEveryParameter) {
  for (const char* name : {"run", "run/checkpoints"}) {
    const auto model = other();
    ASSERT_FALSE(same(*model, *run_.model));
    const auto taken = take_parameters(*model, {.from = folder_.path() / name, .fresh = {}});
    ASSERT_TRUE(taken) << taken.error().message;
    EXPECT_EQ(taken->taken, static_cast<std::int64_t>(model->parameters().size()));
    EXPECT_EQ(taken->anew, 0);
    EXPECT_NE(taken->origin.find("step 3 of"), std::string::npos) << taken->origin;
    EXPECT_TRUE(same(*model, *run_.model)) << name;
  }
}

TEST_F(FromACheckpoint, LeavesWhatBeginsAnew) {
  const auto model = other(), before = other();
  const auto taken = take_parameters(*model, {.from = folder_.path() / "run", .fresh = {"backbone.layers.1."}});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_GT(taken->anew, 3);
  const auto now = model->named_parameters(), old = before->named_parameters(), run = run_.model->named_parameters();
  for (const auto& parameter : now) {
    const bool anew = parameter.key().starts_with("backbone.layers.1.");
    EXPECT_TRUE(at::equal(parameter.value(), anew ? old[parameter.key()] : run[parameter.key()])) << parameter.key();
  }
}

TEST_F(FromACheckpoint, RefusesWhatDoesNotFitByNameAndShape) {
  const auto refusal = [&](nn::LanguageModel& model, std::vector<std::string> fresh) {
    std::vector<at::Tensor> before;
    for (const at::Tensor& tensor : model.parameters()) before.push_back(tensor.detach().clone());
    const auto taken = take_parameters(model, {.from = folder_.path() / "run", .fresh = std::move(fresh)});
    if (!taken) {
      const auto after = model.parameters();
      for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(after[i], before[i])) << "half taken";
    }
    return taken ? std::string() : taken.error().message;
  };
  // A parameter that the run does not have.
  std::string message = refusal(*other(false), {});
  EXPECT_NE(message.find("lm_head.weight"), std::string::npos) << message;
  EXPECT_NE(message.find("is not there"), std::string::npos) << message;
  EXPECT_EQ(refusal(*other(false), {"lm_head"}), "");
  // Other shapes, both named.
  message = refusal(*other(true, 2, 24), {});
  EXPECT_NE(message.find("backbone.norm_f.weight is [16] there, [24] here"), std::string::npos) << message;
  // Parameters that this model does not have.
  message = refusal(*other(true, 1), {});
  EXPECT_NE(message.find("backbone.layers.1.norm.weight [16] is not in this model"), std::string::npos) << message;
  EXPECT_EQ(refusal(*other(true, 1), {"backbone.layers.1."}), "");
  // A beginning that nothing has.
  message = refusal(*other(), {"lm_haed"});
  EXPECT_NE(message.find("'lm_haed'"), std::string::npos) << message;
}

TEST_F(FromACheckpoint, NamesAFolderWithoutOne) {
  const auto absent = take_parameters(*other(), {.from = folder_.path() / "nowhere", .fresh = {}});
  ASSERT_FALSE(absent);
  EXPECT_NE(absent.error().message.find("nowhere"), std::string::npos) << absent.error().message;
  const auto empty = take_parameters(*other(), {.from = folder_.path(), .fresh = {}});
  ASSERT_FALSE(empty);
  EXPECT_NE(empty.error().message.find(folder_.path().string()), std::string::npos) << empty.error().message;
}

TEST(InitialParameters, AreTheAveragedOnesWhereTheRunKeptThem) {
  const tests::TemporaryFolder folder;
  TrainerOptions averaging;
  averaging.optimiser.average_decay = 0.9;
  SmallRun run("mamba", 4, averaging);
  run.losses(5);
  save(*run.trainer, folder.path());
  SmallRun other("mamba");
  ASSERT_TRUE(take_parameters(*other.model, {.from = folder.path(), .fresh = {}}));
  EXPECT_FALSE(same(*other.model, *run.model));
  run.trainer->optimiser().swap_average();
  EXPECT_TRUE(same(*other.model, *run.model));
}

TEST(InitialParameters, AreReadFromAnExportedModel) {
  const tests::TemporaryFolder folder;
  const auto exported = model_of(small_model(1)), other = model_of(small_model(2));
  ASSERT_FALSE(same(*other, *exported));
  ASSERT_TRUE(export_model(*exported, small_model(1), {}, {}, folder.path() / "model"));
  const auto taken = take_parameters(*other, {.from = folder.path() / "model", .fresh = {}});
  ASSERT_TRUE(taken) << taken.error().message;
  EXPECT_TRUE(same(*other, *exported));
}

}  // namespace
}  // namespace krait::train
