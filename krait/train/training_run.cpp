#include "krait/train/training_run.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "krait/formats/atomic_file.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/linear.h"
#include "krait/train/curriculum.h"
#include "krait/train/gradient_exchange.h"
#include "krait/train/mixture_chart.h"
#include "krait/train/objective_source.h"
#include "krait/train/run_log.h"
#include "krait/train/run_memory.h"
#include "krait/train/size_class_pool.h"
#include "krait/train/tensor_memory.h"

namespace krait::train {
namespace {

// Another seed than that of training: other examples of the same task.
constexpr std::uint64_t kEvaluationSeed = 0x65766c;
constexpr std::int64_t kTaskBatches = 8;

std::vector<const StateProvider*> views_of(const std::vector<std::unique_ptr<StateProvider>>& providers) {
  std::vector<const StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  return views;
}

}  // namespace

struct TrainingRun::Parts {
  RunConfig config;
  RunObserver observer;
  ProcessGroup* group = nullptr;
  std::optional<GradientExchange> exchange;
  std::shared_ptr<const Task> task, test_task;  // no test: other examples of the same
  std::unique_ptr<BatchSource> source;
  ObjectiveSource* objectives = nullptr;  // the source, where it is one
  std::vector<HeldOutObjective> held_out;
  std::optional<DataLoader> validation;
  DataCursor validation_begin;
  std::unique_ptr<RunMemory> offloaded;  // where the configuration has [memory]
  std::shared_ptr<nn::LanguageModel> model;
  std::unique_ptr<Trainer> trainer;
  std::unique_ptr<Curriculum> curriculum;
  SizeClassPool memory;
  std::unique_ptr<CheckpointWriter> writer;
  std::optional<RunLog> log;
  bool log_is_behind = false;  // it could not be written, and this was said
  double best = std::numeric_limits<double>::infinity();
  std::int64_t without_better = 0;

  Result<void> open_data();
  Result<void> open_task();
  Result<void> open_questions_task();
  Result<void> open_corpus();
  Result<void> open_model();
  Result<void> open_curriculum();
  Result<void> change_mixture();
  Result<void> go_on();
  Result<void> begin(bool resume);
  Result<void> open_writer();
  Result<void> save();
  Result<void> write_log();
  Result<void> heed_reports(std::vector<CheckpointReport> reports);
  Result<EvaluationReport> evaluate();
  Result<double> held_out_loss(const HeldOutObjective& of);
  Result<EvaluationReport> score(const Task& asked, std::int64_t examples, std::int64_t rows);
  Result<void> evaluate_tasks(RunResult& result);
};

Result<void> TrainingRun::Parts::open_data() {
  const bool questions = !config.questions.train.empty();
  if (!config.data.task && !questions) return open_corpus();
  KRAIT_TRY(questions ? open_questions_task() : open_task());
  config.model.vocabulary = task->vocabulary();
  const DataLoaderOptions& loader = config.data.loader;
  source = std::make_unique<TaskSource>(task, loader.seed, loader.batch, loader.rank, loader.ranks);
  return {};
}

Result<void> TrainingRun::Parts::open_questions_task() {
  if (config.data.task || !config.data.sources.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[train] a run learns from [questions], [task] or [[data.source]]: one");
  }
  KRAIT_ASSIGN(const QuestionTasks questions, open_questions(config.questions, config.data.tokenizer));
  task = questions.train;
  test_task = questions.test;
  return {};
}

Result<void> TrainingRun::Parts::open_task() {
  KRAIT_ASSIGN(std::unique_ptr<Task> made, make_task(config.data.task->name, config.data.task->values));
  task = std::move(made);
  return {};
}

Result<void> TrainingRun::Parts::open_corpus() {
  KRAIT_ASSIGN(std::vector<DataSource> sources, open_sources(config.data.sources));
  if (sources.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[train] nothing to learn from: [[data.source]] or [task] says what");
  }
  config.model.vocabulary = sources.front().corpus.vocabulary();
  if (config.data.objectives.empty()) {
    KRAIT_ASSIGN(DataLoader loader, DataLoader::make(std::move(sources), config.data.loader));
    source = std::make_unique<CorpusSource>(std::move(loader));
  } else {
    KRAIT_ASSIGN(std::unique_ptr<ObjectiveSource> opened, open_objective_source(config.data, std::move(sources)));
    KRAIT_ASSIGN(held_out, open_held_out(config.data, *opened, config.evaluate_pieces));
    objectives = opened.get();
    source = std::move(opened);
  }
  if (config.data.validation.empty()) return {};
  KRAIT_ASSIGN(std::vector<DataSource> held_out, open_sources(config.data.validation));
  DataLoaderOptions once = config.data.loader;
  once.shuffle = once.repeat = false;
  KRAIT_ASSIGN(DataLoader opened, DataLoader::make(std::move(held_out), once));
  validation_begin = opened.cursor();
  validation.emplace(std::move(opened));
  return {};
}

Result<void> TrainingRun::Parts::open_model() {
  TrainerMemory where;
  if (config.memory.any()) {
    if (group != nullptr) {
      return fail(ErrorCode::kUnsupported, "[memory] is for runs of one process; here are {}", group->ranks());
    }
    KRAIT_ASSIGN(offloaded, RunMemory::open(config, *source));
    if (observer.note) observer.note(offloaded->plan().text());
    model = offloaded->model();
    where = offloaded->for_trainer();
  } else {
    set_tensor_memory_kept(true);
    KRAIT_ASSIGN(model, make_model(config.model));
  }
  trainer = std::make_unique<Trainer>(*model, *source, config.trainer, std::move(where));
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
  std::vector<double> losses;
  for (const HeldOutObjective& of : held_out) {
    KRAIT_ASSIGN(const double loss, held_out_loss(of));
    losses.push_back(loss);
  }
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

Result<void> TrainingRun::Parts::go_on() {
  KRAIT_ASSIGN(const NewestCheckpoint newest, open_newest_checkpoint(config.checkpoint.folder, nn::ComputePool()));
  for (const Error& error : newest.passed_over) {
    if (observer.note) observer.note(error.message);
  }
  KRAIT_TRY(trainer->restore(newest.checkpoint));
  if (curriculum != nullptr) KRAIT_TRY(curriculum->restore(newest.checkpoint));
  return {};
}

Result<void> TrainingRun::Parts::begin(bool resume) {
  const Result<void> begun = resume && (group == nullptr || group->is_first()) ? go_on() : Result<void>();
  if (group == nullptr) return begun;
  KRAIT_TRY(share_outcome(begun, *group));
  KRAIT_TRY(share_state(*trainer, *group));
  exchange.emplace(*group, observer.stop);
  trainer->set_reduction(&*exchange);
  return {};
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
  // The next step reads the state while it is copied, and waits for the copy before it changes it.
  Result<void> started;
  if (offloaded != nullptr) {
    started = writer->save_in_pieces(trainer->steps_done(), views_of(providers));
  } else if (const auto begun = writer->begin_save(trainer->steps_done(), views_of(providers)); !begun) {
    started = std::unexpected(begun.error());
  }
  if (!started && config.stop_when_not_saved) return started;
  if (!started && observer.note) observer.note(started.error().message);
  return {};
}

Result<EvaluationReport> TrainingRun::Parts::evaluate() {
  EvaluationReport report{.step = trainer->steps_done() - 1, .is_task = task != nullptr};
  trainer->optimiser().swap_average();
  double wrong = 0.0;
  if (task != nullptr) {
    const std::int64_t batches = config.evaluate_batches > 0 ? config.evaluate_batches : kTaskBatches;
    const std::int64_t batch = config.data.loader.batch;
    KRAIT_ASSIGN(report, score(test_task ? *test_task : *task, batches * batch * config.data.loader.ranks, batch));
    wrong = 1.0 - report.accuracy;
  } else {
    KRAIT_TRY(validation->seek(validation_begin));
    KRAIT_ASSIGN(TextEvaluation text, evaluate_text(*model, *validation, config.evaluate_batches));
    if (group != nullptr) KRAIT_TRY(add_up(text, *group));
    report.loss = wrong = text.mean();
    for (std::size_t i = 0; i < held_out.size(); ++i) {
      KRAIT_ASSIGN(const double loss, held_out_loss(held_out[i]));
      report.objectives.push_back({held_out[i].name, loss, objectives->loader().weights()[i]});
    }
  }
  trainer->optimiser().swap_average();
  report.is_best = wrong < best;
  without_better = report.is_best ? 0 : without_better + 1;
  best = std::min(best, wrong);
  return report;
}

// Each process measures its part of what is asked, and all get the whole.
Result<double> TrainingRun::Parts::held_out_loss(const HeldOutObjective& of) {
  const Part part = own_part(std::ssize(of.batches), group);
  const std::span batches(of.batches);
  TextEvaluation text = evaluate_batches(
      *model, batches.subspan(static_cast<std::size_t>(part.first), static_cast<std::size_t>(part.count)));
  if (group != nullptr) KRAIT_TRY(add_up(text, *group));
  return text.mean();
}

Result<EvaluationReport> TrainingRun::Parts::score(const Task& asked, std::int64_t examples, std::int64_t rows) {
  const Part part = own_part(examples, group);
  TaskScore score =
      evaluate_task(*model, asked, config.data.loader.seed ^ kEvaluationSeed, part.count, rows, part.first);
  if (group != nullptr) KRAIT_TRY(add_up(score, *group));
  return EvaluationReport{.step = trainer->steps_done() - 1,
                          .examples = examples,
                          .is_task = true,
                          .accuracy = score.accuracy(),
                          .exact_match = score.exact_match()};
}

Result<void> TrainingRun::Parts::evaluate_tasks(RunResult& result) {
  for (const TaskEvaluation& wanted : config.task_evaluations) {
    bool stops = observer.stop && observer.stop();
    if (group != nullptr) KRAIT_TRY(any_of(stops, *group));
    if (stops) {
      result.stopped = result.interrupted = true;
      break;
    }
    KRAIT_ASSIGN(const std::unique_ptr<Task> asked, make_task(wanted.task.name, wanted.task.values));
    trainer->optimiser().swap_average();
    // No more memory than a batch of training takes.
    KRAIT_ASSIGN(EvaluationReport report,
                 score(*asked, wanted.examples, evaluation_rows(*asked, config.data.loader.batch * task->longest())));
    trainer->optimiser().swap_average();
    report.name = wanted.name;
    // The step after the last: a run that is opened again measures anew, and its log drops these lines.
    report.step = trainer->steps_done();
    if (log) log->add(report);
    if (observer.evaluation) observer.evaluation(report);
    result.task_evaluations.push_back(std::move(report));
  }
  return log ? log->flush() : Result<void>();
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
  KRAIT_TRY(parts->open_model());
  KRAIT_TRY(parts->open_curriculum());
  KRAIT_TRY(parts->begin(resume));
  if (group != nullptr && !group->is_first()) return std::unique_ptr<TrainingRun>(new TrainingRun(std::move(parts)));
  if (parts->config.checkpoint_every > 0) KRAIT_TRY(parts->open_writer());
  KRAIT_ASSIGN(RunLog log, RunLog::open(parts->config.folder, parts->trainer->steps_done()));
  parts->log.emplace(std::move(log));
  return std::unique_ptr<TrainingRun>(new TrainingRun(std::move(parts)));
}

Result<RunResult> TrainingRun::run() {
  Parts& of = *parts_;
  const RunConfig& config = of.config;
  Trainer& trainer = *of.trainer;
  const bool evaluates = of.task != nullptr || of.validation.has_value();
  RunResult result{.parameters = trainer.optimiser().parameters()};
  if (evaluates && trainer.is_done()) {
    KRAIT_ASSIGN(result.last_evaluation, of.evaluate());
    if (of.observer.evaluation) of.observer.evaluation(*result.last_evaluation);
  }
  bool undecided = of.curriculum != nullptr && of.curriculum->decisions().empty();
  // Rank 0 alone has read the decisions of a run that goes on.
  if (of.group != nullptr) KRAIT_TRY(of.group->broadcast(std::as_writable_bytes(std::span(&undecided, 1))));
  if (undecided) KRAIT_TRY(of.change_mixture());
  while (!trainer.is_done() && !result.stopped) {
    KRAIT_ASSIGN(const StepReport step, trainer.step());
    if (of.log) of.log->add(step);
    if (of.observer.step) of.observer.step(step);
    const std::int64_t done = trainer.steps_done();
    const auto due = [&](std::int64_t every) { return every > 0 && done % every == 0; };
    if (of.group != nullptr && (due(config.evaluate_every) || due(config.checkpoint_every) || trainer.is_done())) {
      KRAIT_TRY(check_state(trainer, *of.group));
    }
    if (of.curriculum != nullptr && due(config.curriculum.every) && !trainer.is_done()) KRAIT_TRY(of.change_mixture());
    if (evaluates && (due(config.evaluate_every) || trainer.is_done())) {
      KRAIT_ASSIGN(result.last_evaluation, of.evaluate());
      if (of.log) of.log->add(*result.last_evaluation);
      if (of.observer.evaluation) of.observer.evaluation(*result.last_evaluation);
      result.stopped = config.patience > 0 && of.without_better >= config.patience;
    }
    result.interrupted = of.exchange ? of.exchange->stops() : of.observer.stop && of.observer.stop();
    if (result.interrupted) result.stopped = !trainer.is_done();
    if (of.writer != nullptr) {
      if (due(config.checkpoint_every) || trainer.is_done() || result.stopped) KRAIT_TRY(of.save());
      KRAIT_TRY(of.heed_reports(of.writer->take_reports()));
    }
    if (of.log) KRAIT_TRY(of.write_log());
  }
  // From here on averages may take the parameters' places.
  if (of.writer != nullptr) of.writer->settle();
  if (!result.interrupted || !result.stopped) KRAIT_TRY(of.evaluate_tasks(result));
  // Nobody waits for the last checkpoint to be written but who writes it.
  if (of.group != nullptr) KRAIT_TRY(of.group->wait_for_all());
  if (of.writer != nullptr) KRAIT_TRY(of.heed_reports(of.writer->finish()));
  result.steps = trainer.steps_done();
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
