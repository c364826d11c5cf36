// The rest of a run's configuration, beside what it learns from (train_config.h):
//
//   [model]                   trained_model.h; from and fresh: initial_parameters.h
//   mixers = ["mamba2"]
//   width = 256
//   layers = 6
//   [pretrain]                pretraining.h
//   [train]
//   steps = 2000
//   rate = 3e-3
//   schedule = "cosine"       or wsd, constant
//   warm_up = 100
//   accumulation = 1
//   bf16 = false              products round their operands to bf16
//   [evaluate]
//   every = 200
//   pieces = 64               of validation documents, on which every objective of a mixture is measured
//   test = 20                 batches of test examples of a task, whenever an evaluation is the best so far
//   patience = 0              evaluations without a better one after which the run stops; 0: it never does
//   [[evaluate.task]]         task_evaluation.h
//   length = 4096
//   [curriculum]              curriculum_options.h
//   [questions]               question_task.h
//   [checkpoint]
//   every = 200
//   keep = 3
//   [memory]                  memory_config.h
//   [output]
//   folder = "runs/tales"     checkpoints/, events, log.jsonl, and the model at the end
#pragma once

#include <filesystem>
#include <string>

#include "krait/train/checkpoint_writer.h"
#include "krait/train/curriculum_options.h"
#include "krait/train/initial_parameters.h"
#include "krait/train/memory_config.h"
#include "krait/train/pretraining.h"
#include "krait/train/question_task.h"
#include "krait/train/task_evaluation.h"
#include "krait/train/train_config.h"
#include "krait/train/trained_model.h"
#include "krait/train/trainer.h"

namespace krait::train {

struct RunConfig {
  TrainDataConfig data;
  QuestionConfig questions;
  CurriculumOptions curriculum;
  TrainedModelOptions model;
  InitialParameters initial;
  PretrainingOptions pretraining;
  TrainerOptions trainer;
  bool bf16 = false;
  std::int64_t evaluate_every = 0;    // steps; 0: at the end alone
  std::int64_t evaluate_batches = 0;  // of validation data, 0: all; of a task: examples / batch
  std::int64_t evaluate_pieces = 64;  // held out, for each of [[objective]]
  std::int64_t test_batches = 0;      // of a task; 0: no test
  std::int64_t patience = 0;
  std::vector<TaskEvaluation> task_evaluations;  // when the run is done
  std::int64_t checkpoint_every = 0;             // steps; 0: none
  CheckpointOptions checkpoint;
  bool stop_when_not_saved = true;  // false: a checkpoint that cannot be written is reported, and training goes on
  MemoryOptions memory;
  ExportOptions exported;
  std::filesystem::path folder;
};

// Paths in the file are relative to the file's folder. The vocabulary is known when the data are (training_run.h).
Result<RunConfig> read_run_config(const std::filesystem::path& path);
// The same of a file that is open; `base`: what paths in it are relative to.
Result<RunConfig> read_run_config(ConfigFile& file, const std::filesystem::path& base);

}  // namespace krait::train
