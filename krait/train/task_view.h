// A task as a run takes it: the first examples alone, over and over, in place of examples without end; read in both
// directions; and answered from the mean over its places.
#pragma once

#include <memory>

#include "krait/train/task.h"

namespace krait::train {

struct TaskView {
  std::int64_t examples = 0;   // the first so many; 0: all
  bool bidirectional = false;  // each example is a prefix as a whole
  bool pooled = false;         // answers are read from the mean over an example's places
};

// Held-out examples are as many as before. kInvalidArgument for more examples than there are, and for a task that shows
// its answers where it would be read in both directions, or has other answers than one at the end where it is pooled.
Result<std::shared_ptr<const Task>> view_task(std::shared_ptr<const Task> task, const TaskView& view);

}  // namespace krait::train
