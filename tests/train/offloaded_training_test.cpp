// Training with its state in a file, layer by layer, against the same training in memory: to the last bit.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "krait/nn/compute_threads.h"
#include "krait/train/batch_source.h"
#include "krait/train/checkpoint_reader.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/layer_inputs.h"
#include "krait/train/offloaded_state.h"
#include "krait/train/task_view.h"
#include "krait/train/trained_model.h"
#include "krait/train/trainer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

struct Variant {
  std::string name;
  std::vector<std::string> mixers = {"mamba2"};
  bool tied = true;
  std::int64_t feed_forward = 0, accumulation = 1;
  double average = 0.0;
  bool pooled = false;
};
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class Training {
 public:
  explicit Training(const Variant& variant)
      : task_(*view_task(*make_task("induction_heads"), {.pooled = variant.pooled})),
        source_(task_, 1, 4),
        model_options_{.mixers = variant.mixers,
                       .vocabulary = task_->vocabulary(),
                       .width = 16,
                       .layers = 3,
                       .states = 8,
                       .head_width = 8,
                       .feed_forward = variant.feed_forward,
                       .tied = variant.tied,
                       .seed = 5},
        options_{.schedule = {.peak = 1e-2, .warm_up = 2, .steps = 20},
                 .optimiser = {.average_decay = variant.average},
                 .accumulation = variant.accumulation} {}

  void in_memory() {
    model_ = *make_model(model_options_);
    trainer_ = std::make_unique<Trainer>(*model_, source_, options_);
  }
  // With so little memory that everything comes and goes: a layer's input takes 2 of 64 KiB, each of its parameters a
  // page, and HAX has 19 of them, the most of all mixers.
  void offloaded(const std::filesystem::path& folder, bool parameters, std::uint64_t memory_bytes = 208 << 10) {
    state_ = *OffloadedState::create({.file = {.folder = folder, .memory_bytes = memory_bytes},
                                      .parameters = parameters,
                                      .average = options_.optimiser.average_decay > 0.0});
    model_ = *make_model(model_options_, [&](const torch::nn::Module& module, const std::string& prefix) {
      state_->adopt(module, prefix);
    });
    state_->attach(*model_);
    const Batch first = task_batch(*task_, 1, 0, 4);
    inputs_ = std::make_unique<LayerInputFile>(*LayerInputFile::reserve(
        state_->file(), model_options_.layers, first.batch * first.length, model_options_.width));
    tensors_ = std::make_unique<GradientTensors>(*model_);
    GradientSink& sink = parameters ? static_cast<GradientSink&>(*state_) : *tensors_;
    layered_ = std::make_unique<LayeredGradients>(*model_, model_->keeper(), *inputs_, sink);
    trainer_ = std::make_unique<Trainer>(*model_, source_, options_,
                                         TrainerMemory{.state = state_, .layered = layered_.get()});
  }

  std::vector<std::pair<double, double>> losses_and_norms(int steps) {
    std::vector<std::pair<double, double>> result;
    for (int i = 0; i < steps; ++i) {
      const StepReport step = *trainer_->step();
      result.emplace_back(step.loss, step.gradient_norm);
    }
    return result;
  }
  // The state's bytes under its names, as a checkpoint has them.
  std::vector<std::pair<std::string, std::vector<std::byte>>> state() {
    std::vector<std::pair<std::string, std::vector<std::byte>>> result;
    for (const auto& provider : trainer_->state_providers()) {
      const auto state = provider->state();
      for (const auto& [name, view] : state->tensors) {
        result.emplace_back(state_name(provider->name(), name), std::vector(view.bytes.begin(), view.bytes.end()));
      }
      for (const PiecewiseTensor& tensor : state->piecewise) {
        auto& bytes = result.emplace_back(state_name(provider->name(), tensor.name), std::vector<std::byte>()).second;
        const auto visited = tensor.visit_pieces(PiecewiseTensor::Access::kRead,
                                                 [&](std::uint64_t, std::span<std::byte> piece) -> Result<void> {
                                                   bytes.insert(bytes.end(), piece.begin(), piece.end());
                                                   return {};
                                                 });
        EXPECT_TRUE(visited.has_value());
      }
    }
    return result;
  }
  double held_out_loss() {
    trainer_->optimiser().swap_average();
    const double result = evaluate_loss();
    trainer_->optimiser().swap_average();
    return result;
  }
  Trainer& trainer() { return *trainer_; }
  nn::LanguageModel& model() { return *model_; }

 private:
  double evaluate_loss() {
    const at::NoGradGuard guard;
    const Batch batch = task_batch(*task_, 9, 0, 4);
    return model_->loss(batch.ids, batch.labels, model_batch(batch)).loss.item<double>();
  }

  std::shared_ptr<const Task> task_;
  TaskSource source_;
  TrainedModelOptions model_options_;
  TrainerOptions options_;
  std::shared_ptr<OffloadedState> state_;
  std::shared_ptr<nn::LanguageModel> model_;
  std::unique_ptr<LayerInputFile> inputs_;
  std::unique_ptr<GradientTensors> tensors_;
  std::unique_ptr<LayeredGradients> layered_;
  std::unique_ptr<Trainer> trainer_;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const std::string& mixer : mixer_names()) all.push_back({.name = mixer, .mixers = {mixer}});
  all.push_back({.name = "untied", .tied = false});
  all.push_back({.name = "feed_forward", .mixers = {"mamba2", "attention"}, .feed_forward = 24});
  all.push_back({.name = "accumulation", .accumulation = 3});
  all.push_back({.name = "accumulation_untied", .tied = false, .accumulation = 2});
  all.push_back({.name = "average", .average = 0.9});
  all.push_back({.name = "pooled", .pooled = true});
  return all;
}

class EveryVariant : public ::testing::TestWithParam<Variant> {
 protected:
  tests::TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Variants, EveryVariant, ::testing::ValuesIn(variants()),
                         [](const auto& of) { return of.param.name; });

TEST_P(EveryVariant, TrainsToTheBitAsInMemory) {
  Training expected(GetParam());
  expected.in_memory();
  const auto losses = expected.losses_and_norms(5);
  for (const bool parameters : {false, true}) {
    Training actual(GetParam());
    actual.offloaded(folder_.path(), parameters);
    EXPECT_EQ(actual.losses_and_norms(5), losses) << parameters;
    EXPECT_EQ(actual.held_out_loss(), expected.held_out_loss()) << parameters;
    EXPECT_EQ(actual.state(), expected.state()) << parameters;
  }
}

// A run may go on in the other way than it began.
TEST_P(EveryVariant, GoesOnFromACheckpointOfEitherKind) {
  Training unbroken(GetParam());
  unbroken.in_memory();
  const auto losses = unbroken.losses_and_norms(5);
  for (const bool first_in_memory : {false, true}) {
    const auto begin = [&](Training& run, bool in_memory) {
      if (in_memory) {
        run.in_memory();
      } else {
        run.offloaded(folder_.path(), true);
      }
    };
    const std::filesystem::path checkpoints = folder_.path() / (first_in_memory ? "memory" : "file");
    {
      Training begun(GetParam());
      begin(begun, first_in_memory);
      begun.losses_and_norms(2);
      SizeClassPool memory;
      KRAIT_ASSERT_VALUE(const auto writer, CheckpointWriter::open({.folder = checkpoints}, nn::ComputePool(), memory));
      const auto providers = begun.trainer().state_providers();
      std::vector<const StateProvider*> views;
      for (const auto& provider : providers) views.push_back(provider.get());
      ASSERT_TRUE(writer->save_in_pieces(2, views).has_value());
      for (const CheckpointReport& report : writer->finish()) {
        ASSERT_TRUE(report.committed.has_value()) << report.committed.error().message;
      }
      EXPECT_EQ(writer->save(2, views).has_value(), first_in_memory);
      writer->finish();
    }
    Training resumed(GetParam());
    begin(resumed, !first_in_memory);
    resumed.losses_and_norms(1);  // whatever it was before
    KRAIT_ASSERT_VALUE(const auto newest, open_newest_checkpoint(checkpoints, nn::ComputePool()));
    const auto restored = resumed.trainer().restore(newest.checkpoint);
    ASSERT_TRUE(restored.has_value()) << restored.error().message;
    EXPECT_EQ(resumed.losses_and_norms(3), decltype(losses)(losses.begin() + 2, losses.end()));
    EXPECT_EQ(resumed.state(), unbroken.state());
  }
}

TEST(OffloadedTraining, AGradientThatIsNotFiniteChangesNothing) {
  const tests::TemporaryFolder folder;
  Training run({.name = ""});
  run.offloaded(folder.path(), true);
  run.losses_and_norms(1);
  // The NaN comes in through a parameter of the last norm.
  const auto providers = run.trainer().state_providers();
  KRAIT_ASSERT_VALUE(const auto parameters, providers.front()->state());
  for (const PiecewiseTensor& tensor : parameters.piecewise) {
    if (tensor.name != "backbone.norm_f.weight") continue;
    ASSERT_TRUE(tensor
                    .visit_pieces(PiecewiseTensor::Access::kWrite,
                                  [](std::uint64_t, std::span<std::byte> piece) -> Result<void> {
                                    std::ranges::fill(piece, std::byte{0xff});
                                    return {};
                                  })
                    .has_value());
  }
  const auto before = run.state();
  const auto step = run.trainer().step();
  ASSERT_TRUE(step.has_value());
  EXPECT_FALSE(step->taken);
  EXPECT_EQ(run.state(), before);
}

TEST(OffloadedTraining, GradientsThroughParametersThatAreAwayAreRefused) {
  const tests::TemporaryFolder folder;
  Training run({.name = ""});
  run.offloaded(folder.path(), true);
  const std::vector<std::int32_t> tokens = {1, 2, 3};
  EXPECT_ANY_THROW(run.model().hidden(tokens, {.segments = {{0, 3}}}));
  for (const at::Tensor& parameter : run.model().parameters()) {
    EXPECT_TRUE(std::isnan(parameter.flatten()[0].item<float>()));
  }
}

}  // namespace
}  // namespace krait::train
