// How many symbols, pairs or contexts a row of a task has: all rows the most, or each a number of its own. Rows of few
// teach what rows of many ask.
#pragma once

#include <string_view>

#include "krait/train/random_stream.h"
#include "krait/train/task.h"

namespace krait::train {

struct RowCount {
  std::int64_t fewest, most;

  // Out of a task's values by their names; 0 as the fewest stands for the most. kInvalidArgument for more than those.
  static Result<RowCount> read(std::string_view task, const TaskValues& values, std::string_view fewest,
                               std::string_view most) {
    const std::int64_t least = values.find(fewest)->second, all = values.find(most)->second;
    if (least > all) {
      return fail(ErrorCode::kInvalidArgument, "[task] {}: {} {} is above {} {}", task, fewest, least, most, all);
    }
    return RowCount{least == 0 ? all : least, all};
  }

  // Rows that are all alike take no number from the stream.
  std::int64_t draw(Random& random) const { return fewest == most ? most : between(random, fewest, most); }
};

}  // namespace krait::train
