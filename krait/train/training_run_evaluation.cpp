// How a run does, on what nothing is learned from: its task or text, and what else its task is asked.
#include <algorithm>

#include "krait/train/training_run_parts.h"

namespace krait::train {
namespace {

// Other seeds than that of training: other examples of the same task.
constexpr std::uint64_t kEvaluationSeed = 0x65766c, kTestSeed = 0x74657374;
constexpr std::int64_t kTaskBatches = 8;

}  // namespace

Result<EvaluationReport> TrainingRun::Parts::evaluate() {
  EvaluationReport report{.step = steps_done() - 1, .is_task = task != nullptr};
  const std::int64_t batch = config.data.loader.batch, ranks = config.data.loader.ranks;
  trainer->optimiser().swap_average();
  if (task != nullptr) {
    const std::int64_t batches = config.evaluate_batches > 0 ? config.evaluate_batches : kTaskBatches;
    KRAIT_ASSIGN(report, score(test_task ? *test_task : *task, HeldOut::validation, batches * batch * ranks, batch));
  } else {
    KRAIT_TRY(validation->seek(validation_begin));
    KRAIT_ASSIGN(TextEvaluation text, evaluate_text(*model, *validation, config.evaluate_batches));
    if (group != nullptr) KRAIT_TRY(add_up(text, *group));
    report.loss = text.mean();
    KRAIT_ASSIGN(const std::vector<double> losses, held_out_losses());
    for (std::size_t i = 0; i < held_out.size(); ++i) {
      report.objectives.push_back({held_out[i].name, losses[i], objectives->loader().weights()[i]});
    }
  }
  report.is_best = selection.is_better(report);
  if (task != nullptr && report.is_best && config.test_batches > 0) {
    KRAIT_ASSIGN(const EvaluationReport test, score(*task, HeldOut::test, config.test_batches * batch * ranks, batch));
    report.test_accuracy = test.accuracy;
  }
  trainer->optimiser().swap_average();
  selection.add(report);
  return report;
}

// Of each objective, with the parameters that are in place. Each process measures its part, and all get the whole.
Result<std::vector<double>> TrainingRun::Parts::held_out_losses() {
  std::vector<double> losses;
  for (const HeldOutObjective& of : held_out) {
    const Part part = own_part(std::ssize(of.batches), group);
    const std::span batches(of.batches);
    TextEvaluation text = evaluate_batches(
        *model, batches.subspan(static_cast<std::size_t>(part.first), static_cast<std::size_t>(part.count)));
    if (group != nullptr) KRAIT_TRY(add_up(text, *group));
    losses.push_back(text.mean());
  }
  return losses;
}

Result<EvaluationReport> TrainingRun::Parts::score(const Task& asked, HeldOut part, std::int64_t examples,
                                                   std::int64_t rows) {
  const std::shared_ptr<const Task> own = asked.held_out(part);
  const Task& from = own != nullptr ? *own : asked;
  if (from.examples() > 0) examples = std::min(examples, from.examples());
  const std::uint64_t seed = config.data.loader.seed ^ (part == HeldOut::test ? kTestSeed : kEvaluationSeed);
  const Part mine = own_part(examples, group);
  TaskScore score = evaluate_task(*model, from, seed, mine.count, rows, mine.first);
  if (group != nullptr) KRAIT_TRY(add_up(score, *group));
  return EvaluationReport{.step = steps_done() - 1,
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
    KRAIT_ASSIGN(const std::shared_ptr<const Task> asked, make_task(wanted.task));
    trainer->optimiser().swap_average();
    // No more memory than a batch of training takes.
    KRAIT_ASSIGN(EvaluationReport report, score(*asked, HeldOut::validation, wanted.examples,
                                                evaluation_rows(*asked, config.data.loader.batch * task->longest())));
    trainer->optimiser().swap_average();
    report.name = wanted.name;
    // The step after the last: a run that is opened again measures anew, and its log drops these lines.
    report.step = steps_done();
    if (log) log->add(report);
    if (observer.evaluation) observer.evaluation(report);
    result.task_evaluations.push_back(std::move(report));
  }
  return log ? log->flush() : Result<void>();
}

}  // namespace krait::train
