// What else a run's task is asked at the end of the run: the same task with other parameters, such as longer examples
// than those that it was learned from.
//
//   [[evaluate.task]]
//   name = "length 4096"     unless given: what differs from [task]
//   length = 4096            any parameter of the task; those that are not given are as in [task]
//   examples = 256
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "krait/train/config_file.h"
#include "krait/train/task.h"
#include "krait/train/train_config.h"

namespace krait::train {

struct TaskEvaluation {
  std::string name;
  TaskConfig task;
  std::int64_t examples = 256;
};

// Reads [[evaluate.task]]; what is wrong is noted, a vocabulary that is not the task's among it.
std::vector<TaskEvaluation> read_task_evaluations(ConfigTable& evaluate, const std::optional<TaskConfig>& task);

// How many examples are read at once, so that no more memory is needed than by a batch of `tokens` tokens; a single one
// may be longer than that.
std::int64_t evaluation_rows(const Task& task, std::int64_t tokens);

}  // namespace krait::train
