// The part of a run's configuration that says what it learns from. Other parts of the same file have readers of their
// own; config_file.h says what is wrong with any.
//
//   [data]                          what is read, and in what rows
//   length = 512
//   batch = 16
//   [[data.source]]
//   tokens = ["shards/tales"]       .ktok files, or folders of them
//   weight = 2
//   [tokenizer]
//   path = "tokenizer.json"
//   [task]                          a synthetic task in place of data
//   name = "list_ops"
//   length = 500
//   examples = 2000                 the first so many, over and over; without end unless given
//   bidirectional = true            read in both directions (Batch's prefixes)
//   pooled = true                   answered from the mean over an example's places
//   [[objective]]                   next_token alone when there is none
//   name = "infilling"
//   weight = 0.2
//   corruption = 0.3
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/config_file.h"
#include "krait/train/data_loader.h"
#include "krait/train/objective.h"
#include "krait/train/task_view.h"
#include "krait/train/tokenizer_training.h"

namespace krait::train {

struct TokenSourceConfig {
  std::string name;
  std::vector<std::string> tokens;
  double weight = 1;
};

struct TaskConfig {
  std::string name;
  TaskValues values;
  TaskPaths paths = {};
  TaskView view = {};
};

struct ObjectiveConfig {
  std::string name;
  double weight = 1;
  ObjectiveValues values;
};

struct TrainDataConfig {
  std::vector<TokenSourceConfig> sources;     // [[data.source]]
  std::vector<TokenSourceConfig> validation;  // [[data.validation]], read once without weights
  DataLoaderOptions loader;                   // [data]
  std::int64_t piece = 512;                   // [data] piece, for objectives other than next_token (objective_loader.h)
  std::string tokenizer;                      // [tokenizer] path
  TokenizerTrainingOptions tokenizer_training;
  std::optional<TaskConfig> task;
  std::vector<ObjectiveConfig> objectives;
};

Result<std::shared_ptr<const Task>> make_task(const TaskConfig& config);

// Reads [data], [tokenizer], [task] and [[objective]]. What is wrong is noted in `file`, whose finish() says it.
TrainDataConfig read_train_data_config(ConfigFile& file);

// Opens the shards and checks every token of them.
Result<std::vector<DataSource>> open_sources(std::span<const TokenSourceConfig> sources);

}  // namespace krait::train
