// What a training run is made of, for the files that make it up: training_run.cpp (its course), training_run_data.cpp
// (what it reads) and training_run_evaluation.cpp (how it does).
#pragma once

#include "krait/train/curriculum.h"
#include "krait/train/gradient_exchange.h"
#include "krait/train/objective_source.h"
#include "krait/train/run_log.h"
#include "krait/train/run_memory.h"
#include "krait/train/selection.h"
#include "krait/train/size_class_pool.h"
#include "krait/train/training_run.h"

namespace krait::train {

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
  Selection selection;
  bool pretrains = false;  // which phase the trainer is of

  // Begins a phase with the parameters as they are, and an optimiser that knows nothing of earlier steps.
  void begin_phase(bool pretraining);
  // Steps of the run before those of the trainer.
  std::int64_t steps_before() const { return pretrains ? 0 : config.pretraining.steps; }
  std::int64_t steps_done() const { return steps_before() + trainer->steps_done(); }
  bool evaluates() const { return !pretrains && (task != nullptr || validation.has_value()); }

  Result<void> open_data();
  Result<void> open_task();
  Result<void> open_questions_task();
  Result<void> open_corpus();
  std::unique_ptr<TaskSource> task_source() const;
  Result<void> open_model();
  Result<void> open_curriculum();
  Result<void> find_end_of_text();
  Result<void> change_mixture();
  Result<void> begin_anew();
  Result<void> go_on();
  Result<void> begin(bool resume);
  Result<void> advance(RunResult& result);
  Result<void> open_writer();
  Result<void> save();
  Result<void> write_log();
  Result<void> heed_reports(std::vector<CheckpointReport> reports);
  Result<EvaluationReport> evaluate();
  Result<std::vector<double>> held_out_losses();
  // Of examples that nothing is learned from.
  Result<EvaluationReport> score(const Task& asked, HeldOut part, std::int64_t examples, std::int64_t rows);
  Result<void> evaluate_tasks(RunResult& result);
};

}  // namespace krait::train
