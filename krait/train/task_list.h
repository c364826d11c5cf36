// The kinds of tasks, each of a file of its own: task_<name>.cpp.
#pragma once

#include "krait/train/task.h"

namespace krait::train {

extern const TaskKind kSelectiveCopying;
extern const TaskKind kInductionHeads;
extern const TaskKind kAssociativeRecall;
extern const TaskKind kJointRecall;
extern const TaskKind kPhoneBook;
extern const TaskKind kParity;
extern const TaskKind kModularArithmetic;
extern const TaskKind kListOps;
extern const TaskKind kSequentialImages;

}  // namespace krait::train
