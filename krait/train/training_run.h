// A whole run as its configuration says: data, model, steps, evaluation, checkpoints, what is logged, and the model in
// transformers' layout at the end. Whoever shows it to people is told of every step.
//
// Where there is self-pretraining (pretraining.h) its steps come first, and steps are counted through both phases.
//
// In the output folder: checkpoints/ (formats.md), log.jsonl, one line a step, and events.out.tfevents.* for
// TensorBoard, config.json, model.safetensors and tokenizer.json of the model. A run that goes on appends to the log
// what the checkpoint's step did not have yet: lines of later steps, which an interrupted run has left, are taken off.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "krait/train/evaluation.h"
#include "krait/train/memory_plan.h"
#include "krait/train/process_group.h"
#include "krait/train/run_config.h"

namespace krait::train {

struct EvaluationReport {
  std::string name = {};  // of one of [[evaluate.task]], measured when the run is done; empty: the run's own
  std::int64_t step = 0;
  std::int64_t examples = 0;  // of a task
  bool is_task = false;
  double loss = 0.0;      // nats a token, of text
  double accuracy = 0.0;  // of a task
  double exact_match = 0.0;
  std::optional<double> test_accuracy = {};  // of a task, when this is the best
  bool is_best = false;
  struct Objective {
    std::string name;
    double loss = 0.0;  // nats a label, on the held-out pieces
    double weight = 0.0;
  };
  std::vector<Objective> objectives = {};  // where the run has a mixture of them
};

// What a run tells as it goes. All are called by the thread that trains.
struct RunObserver {
  std::function<void(const StepReport&)> step = {};
  std::function<void(const EvaluationReport&)> evaluation = {};
  std::function<void(const CheckpointReport&)> checkpoint = {};
  std::function<void(const std::string&)> note = {};
  std::function<bool()> stop = {};  // asked after every step: whether to end here, with a checkpoint
};

struct RunResult {
  std::int64_t steps = 0;
  bool stopped = false;      // before its last step, by the observer or for want of progress
  bool interrupted = false;  // by the observer, of any of the processes
  std::optional<EvaluationReport> last_evaluation = {};
  std::vector<EvaluationReport> task_evaluations = {};   // [[evaluate.task]], of a run that is done
  std::optional<EvaluationReport> best_evaluation = {};  // since the run began, over every time it was resumed
  std::int64_t parameters = 0;
};

class TrainingRun {
 public:
  // Opens data and makes the model; `resume` goes on from the newest checkpoint, of which there must be one. Of a group
  // of processes, which must outlive this, rank 0 alone reads and writes in the run's folder.
  static Result<std::unique_ptr<TrainingRun>> open(RunConfig config, bool resume, const RunObserver& observer,
                                                   ProcessGroup* group = nullptr);
  ~TrainingRun();
  // One that is done already is only evaluated.
  Result<RunResult> run();
  // The model as it is now, averaged where an average is kept; `folder` is model/ of the run's folder where it is
  // empty.
  Result<std::filesystem::path> export_to(std::filesystem::path folder);

  const RunConfig& config() const;
  // What the run was to have of memory; null without [memory].
  const MemoryPlan* memory_plan() const;
  // The same without the run.
  static Result<MemoryPlan> plan(RunConfig config);
  Trainer& trainer();

 private:
  struct Parts;
  explicit TrainingRun(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace krait::train
