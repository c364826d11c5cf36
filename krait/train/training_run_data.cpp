// What a run learns from and is measured by: documents with their objectives, a task, questions.
#include "krait/train/training_run_parts.h"

namespace krait::train {

Result<void> TrainingRun::Parts::open_data() {
  const bool questions = !config.questions.train.empty();
  if (!config.data.task && !questions) return open_corpus();
  KRAIT_TRY(questions ? open_questions_task() : open_task());
  config.model.vocabulary = task->vocabulary();
  source = task_source();
  PretrainingOptions& pretraining = config.pretraining;
  if (pretraining.steps == 0) return {};
  if (task->shows_answers()) {
    return fail(ErrorCode::kInvalidArgument,
                "[pretrain] learns from inputs alone; those of this task have the answers in them");
  }
  if (pretraining.places.share == 0.0) pretraining.places.share = task->hidden_share();
  // The token that hides a place comes after the task's own.
  if (pretraining.masked) ++config.model.vocabulary;
  return {};
}

std::unique_ptr<TaskSource> TrainingRun::Parts::task_source() const {
  const DataLoaderOptions& loader = config.data.loader;
  return std::make_unique<TaskSource>(task, loader.seed, loader.batch, loader.rank, loader.ranks);
}

Result<void> TrainingRun::Parts::open_questions_task() {
  if (config.data.task || !config.data.sources.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[train] a run learns from [questions], [task] or [[data.source]]: one");
  }
  if (config.test_batches > 0) {
    return fail(ErrorCode::kInvalidArgument,
                "[evaluate] test is for a [task]; of [questions], the files of `test` are what is evaluated");
  }
  KRAIT_ASSIGN(const QuestionTasks questions, open_questions(config.questions, config.data.tokenizer));
  task = questions.train;
  test_task = questions.test;
  return {};
}

Result<void> TrainingRun::Parts::open_task() {
  KRAIT_ASSIGN(task, make_task(*config.data.task));
  return {};
}

Result<void> TrainingRun::Parts::open_corpus() {
  if (config.pretraining.steps > 0) {
    return fail(ErrorCode::kUnsupported,
                "[pretrain] is for a [task]: over documents, [train] itself learns what the inputs say");
  }
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

}  // namespace krait::train
