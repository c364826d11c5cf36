#include "krait/train/training_run.h"

#include <algorithm>
#include <iterator>

#include "krait/formats/atomic_file.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/linear.h"
#include "krait/train/data_tokenizer.h"
#include "krait/train/mixture_chart.h"
#include "krait/train/tensor_memory.h"
#include "krait/train/training_run_parts.h"

namespace krait::train {
namespace {

std::vector<const StateProvider*> views_of(const std::vector<std::unique_ptr<StateProvider>>& providers) {
  std::vector<const StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  return views;
}

}  // namespace

Result<void> TrainingRun::Parts::open_model() {
  if (!config.memory.any()) {
    set_tensor_memory_kept(true);
    KRAIT_ASSIGN(model, make_model(config.model));
    return {};
  }
  if (group != nullptr) {
    return fail(ErrorCode::kUnsupported, "[memory] is for runs of one process; here are {}", group->ranks());
  }
  if (config.pretraining.steps > 0 || !config.initial.from.empty()) {
    return fail(ErrorCode::kUnsupported, "[memory] is for runs without [pretrain] and without [model] from");
  }
  KRAIT_ASSIGN(offloaded, RunMemory::open(config, *source));
  if (observer.note) observer.note(offloaded->plan().text());
  model = offloaded->model();
  return {};
}

Result<void> TrainingRun::Parts::open_curriculum() {
  if (config.curriculum.every == 0) return {};
  if (objectives == nullptr || held_out.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[curriculum] needs [[objective]] to choose from and [[data.validation]] to see how they go");
  }
  std::vector<Curriculum::Objective> named;
  for (std::size_t i = 0; i < held_out.size(); ++i) {
    named.push_back({held_out[i].name, config.data.objectives[i].name, config.data.objectives[i].weight});
  }
  CurriculumOptions options = config.curriculum;
  options.seed = config.data.loader.seed;  // one seed tells all that a run sees
  KRAIT_ASSIGN(curriculum, Curriculum::make(std::move(named), options, config.trainer.schedule.steps));
  return {};
}

// What every objective's loss is now, and what is trained on from here.
Result<void> TrainingRun::Parts::change_mixture() {
  trainer->optimiser().swap_average();
  KRAIT_ASSIGN(const std::vector<double> losses, held_out_losses());
  trainer->optimiser().swap_average();
  if (group != nullptr && !group->is_first()) {
    // Rank 0 decides.
    std::vector<double> mixture(held_out.size());
    KRAIT_TRY(group->broadcast(std::as_writable_bytes(std::span(mixture))));
    return objectives->loader().set_weights(mixture);
  }
  const CurriculumDecision& decision = curriculum->decide(trainer->steps_done(), losses);
  if (group != nullptr) {
    std::vector<double> mixture = decision.mixture;
    KRAIT_TRY(group->broadcast(std::as_writable_bytes(std::span(mixture))));
  }
  KRAIT_TRY(objectives->loader().set_weights(decision.mixture));
  log->add(decision, curriculum->names());
  std::vector<MixtureStretch> stretches;
  for (const CurriculumDecision& of : curriculum->decisions()) stretches.push_back({of.step, of.mixture});
  const std::string chart = mixture_chart(curriculum->names(), stretches, decision.step + config.curriculum.every);
  formats::AtomicFile file(config.folder / "mixture.svg");
  file.write(chart.data(), chart.size());
  const auto written = file.commit("train");
  if (!written && observer.note) observer.note(written.error().message);  // a picture is no reason to stop
  return {};
}

void TrainingRun::Parts::begin_phase(bool pretraining) {
  if (writer != nullptr) writer->settle();  // a checkpoint may still be copied from the trainer that ends here
  pretrains = pretraining;
  trainer.reset();
  if (config.pretraining.steps > 0) source = task_source();
  if (pretraining) {
    const auto mask = static_cast<std::int32_t>(task->vocabulary());
    source = std::make_unique<PretrainingSource>(std::move(source), config.pretraining, mask, config.data.loader);
  }
  trainer = std::make_unique<Trainer>(
      *model, *source, pretraining ? pretraining_trainer(config.pretraining, config.trainer) : config.trainer,
      offloaded != nullptr ? offloaded->for_trainer() : TrainerMemory());
  if (exchange) trainer->set_reduction(&*exchange);
  if (writer != nullptr) trainer->set_before_update([this] { writer->settle(); });
}

// For the export: a tokenizer that cannot be read is said before the training, not after it.
Result<void> TrainingRun::Parts::find_end_of_text() {
  if (config.data.tokenizer.empty()) return {};
  KRAIT_ASSIGN(const auto tokenizer, open_tokenizer_json(config.data.tokenizer));
  if (const auto end = end_of_text(*tokenizer)) config.exported.end_token = *end;
  return {};
}

Result<void> TrainingRun::Parts::begin_anew() {
  if (!config.initial.from.empty()) {
    KRAIT_ASSIGN(const TakenParameters taken, take_parameters(*model, config.initial));
    if (observer.note) {
      observer.note(fmt::format("{} parameters begin as those of {}, {} anew", taken.taken, taken.origin, taken.anew));
    }
  }
  begin_phase(config.pretraining.steps > 0);
  return {};
}

Result<void> TrainingRun::Parts::go_on() {
  KRAIT_ASSIGN(const NewestCheckpoint newest, open_newest_checkpoint(config.checkpoint.folder, nn::ComputePool()));
  for (const Error& error : newest.passed_over) {
    if (observer.note) observer.note(error.message);
  }
  KRAIT_ASSIGN(const std::int64_t own, trainer_steps(newest.checkpoint));
  const std::int64_t before = newest.checkpoint.step() - own;
  if (before != 0 && before != config.pretraining.steps) {
    return fail(ErrorCode::kInvalidArgument, "[pretrain] steps is {}, the run to go on with was pretrained for {}",
                config.pretraining.steps, before);
  }
  begin_phase(before == 0 && config.pretraining.steps > 0);
  KRAIT_TRY(trainer->restore(newest.checkpoint));
  KRAIT_TRY(selection.restore(newest.checkpoint));
  if (curriculum != nullptr) KRAIT_TRY(curriculum->restore(newest.checkpoint));
  return {};
}

Result<void> TrainingRun::Parts::begin(bool resume) {
  if (group == nullptr) return resume ? go_on() : begin_anew();
  exchange.emplace(*group, observer.stop);
  const Result<void> begun = !group->is_first() ? Result<void>() : resume ? go_on() : begin_anew();
  KRAIT_TRY(share_outcome(begun, *group));
  bool pretraining = pretrains;
  KRAIT_TRY(group->broadcast(std::as_writable_bytes(std::span(&pretraining, 1))));
  if (!group->is_first()) begin_phase(pretraining);
  KRAIT_TRY(share_state(*trainer, *group));
  return selection.share(*group);
}

Result<void> TrainingRun::Parts::heed_reports(std::vector<CheckpointReport> reports) {
  for (CheckpointReport& report : reports) {
    if (observer.checkpoint) observer.checkpoint(report);
    if (!report.committed && config.stop_when_not_saved) return std::unexpected(report.committed.error());
  }
  return {};
}

Result<void> TrainingRun::Parts::open_writer() {
  KRAIT_ASSIGN(writer, CheckpointWriter::open(config.checkpoint, nn::ComputePool(), memory));
  if (offloaded != nullptr) return {};
  KRAIT_TRY(writer->prepare(views_of(trainer->state_providers())));
  trainer->set_before_update([this] { writer->settle(); });
  return {};
}

// A log that falls behind is said once, and catches up when it can be written again.
Result<void> TrainingRun::Parts::write_log() {
  auto written = log->flush();
  if (!written && config.stop_when_not_saved) return written;
  if (!written && !log_is_behind && observer.note) observer.note(written.error().message);
  log_is_behind = !written;
  return {};
}

Result<void> TrainingRun::Parts::save() {
  auto providers = trainer->state_providers();
  if (curriculum != nullptr) std::ranges::move(curriculum->state_providers(), std::back_inserter(providers));
  providers.push_back(std::make_unique<BlobStateProvider>(selection.provider()));
  // The next step reads the state while it is copied, and waits for the copy before it changes it.
  Result<void> started;
  if (offloaded != nullptr) {
    started = writer->save_in_pieces(steps_done(), views_of(providers));
  } else if (const auto begun = writer->begin_save(steps_done(), views_of(providers)); !begun) {
    started = std::unexpected(begun.error());
  }
  if (!started && config.stop_when_not_saved) return started;
  if (!started && observer.note) observer.note(started.error().message);
  return {};
}

TrainingRun::TrainingRun(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
TrainingRun::~TrainingRun() = default;
const RunConfig& TrainingRun::config() const { return parts_->config; }
Trainer& TrainingRun::trainer() { return *parts_->trainer; }
const MemoryPlan* TrainingRun::memory_plan() const {
  return parts_->offloaded != nullptr ? &parts_->offloaded->plan() : nullptr;
}

Result<MemoryPlan> TrainingRun::plan(RunConfig config) {
  Parts parts;
  parts.config = std::move(config);
  nn::set_bf16_products(parts.config.bf16);
  KRAIT_TRY(parts.open_data());
  return RunMemory::plan(parts.config, *parts.source);
}

Result<std::unique_ptr<TrainingRun>> TrainingRun::open(RunConfig config, bool resume, const RunObserver& observer,
                                                       ProcessGroup* group) {
  auto parts = std::make_unique<Parts>();
  parts->config = std::move(config);
  parts->observer = observer;
  parts->group = group;
  if (group != nullptr) KRAIT_TRY(take_part(parts->config.data.loader, *group));
  nn::set_bf16_products(parts->config.bf16);
  KRAIT_TRY(parts->open_data());
  KRAIT_TRY(parts->find_end_of_text());
  KRAIT_TRY(parts->open_model());
  KRAIT_TRY(parts->open_curriculum());
  KRAIT_TRY(parts->begin(resume));
  if (group != nullptr && !group->is_first()) return std::unique_ptr<TrainingRun>(new TrainingRun(std::move(parts)));
  if (parts->config.checkpoint_every > 0) KRAIT_TRY(parts->open_writer());
  KRAIT_ASSIGN(RunLog log, RunLog::open(parts->config.folder, parts->steps_done()));
  parts->log.emplace(std::move(log));
  return std::unique_ptr<TrainingRun>(new TrainingRun(std::move(parts)));
}

// One step, and what is due after it.
Result<void> TrainingRun::Parts::advance(RunResult& result) {
  KRAIT_ASSIGN(StepReport step, trainer->step());
  step.step += steps_before();
  step.pretraining = pretrains;
  if (log) log->add(step);
  if (observer.step) observer.step(step);
  const std::int64_t done = trainer->steps_done();
  const auto due = [](std::int64_t every, std::int64_t at) { return every > 0 && at % every == 0; };
  const bool evaluation_due = evaluates() && (due(config.evaluate_every, done) || trainer->is_done());
  const bool checkpoint_due = due(config.checkpoint_every, steps_done()) || trainer->is_done();
  if (group != nullptr && (evaluation_due || checkpoint_due)) KRAIT_TRY(check_state(*trainer, *group));
  const bool look_due = curriculum != nullptr && done >= config.curriculum.begin && due(config.curriculum.every, done);
  if (look_due && !trainer->is_done()) KRAIT_TRY(change_mixture());
  if (evaluation_due) {
    KRAIT_ASSIGN(result.last_evaluation, evaluate());
    if (log) log->add(*result.last_evaluation);
    if (observer.evaluation) observer.evaluation(*result.last_evaluation);
    result.stopped = config.patience > 0 && selection.without_better() >= config.patience;
  }
  result.interrupted = exchange ? exchange->stops() : observer.stop && observer.stop();
  if (result.interrupted) result.stopped = pretrains || !trainer->is_done();
  // Before the checkpoint: who goes on from it takes no step again that is not in the log.
  if (log) KRAIT_TRY(write_log());
  if (writer == nullptr) return {};
  if (checkpoint_due || result.stopped) KRAIT_TRY(save());
  return heed_reports(writer->take_reports());
}

Result<RunResult> TrainingRun::run() {
  Parts& of = *parts_;
  RunResult result{.parameters = of.trainer->optimiser().parameters()};
  if (of.evaluates() && of.trainer->is_done()) {
    KRAIT_ASSIGN(result.last_evaluation, of.evaluate());
    if (of.observer.evaluation) of.observer.evaluation(*result.last_evaluation);
  }
  bool undecided = of.curriculum != nullptr && of.config.curriculum.begin == 0 && of.curriculum->decisions().empty();
  // Rank 0 alone has read the decisions of a run that goes on.
  if (of.group != nullptr) KRAIT_TRY(of.group->broadcast(std::as_writable_bytes(std::span(&undecided, 1))));
  if (undecided) KRAIT_TRY(of.change_mixture());
  while (!result.stopped) {
    if (of.pretrains && of.trainer->is_done()) of.begin_phase(false);
    if (of.trainer->is_done()) break;
    KRAIT_TRY(of.advance(result));
  }
  // From here on averages may take the parameters' places.
  if (of.writer != nullptr) of.writer->settle();
  if (!result.interrupted || !result.stopped) KRAIT_TRY(of.evaluate_tasks(result));
  // Nobody waits for the last checkpoint to be written but who writes it.
  if (of.group != nullptr) KRAIT_TRY(of.group->wait_for_all());
  if (of.writer != nullptr) KRAIT_TRY(of.heed_reports(of.writer->finish()));
  result.steps = of.steps_done();
  result.best_evaluation = of.selection.best();
  return result;
}

Result<std::filesystem::path> TrainingRun::export_to(std::filesystem::path folder) {
  const RunConfig& config = parts_->config;
  if (folder.empty()) folder = config.folder / "model";
  parts_->trainer->optimiser().swap_average();
  const auto done = export_model(*parts_->model, config.model, config.exported, config.data.tokenizer, folder);
  parts_->trainer->optimiser().swap_average();
  if (!done) return std::unexpected(done.error());
  return folder;
}

}  // namespace krait::train
