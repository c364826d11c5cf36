// Synthetic tasks: what a sequence model can remember, look up, count and compute, in examples without end. Example
// `index` under `seed` is the same on every machine; other seeds give other data, so that a test set is another seed.
//
// The labels stand where an answer is wanted and nowhere else. An answer is right when the likeliest token is.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/batch.h"

namespace krait::train {

class Task {
 public:
  virtual ~Task() = default;
  virtual std::int64_t vocabulary() const = 0;  // tokens are 0 … vocabulary()-1, labels too
  virtual std::int64_t longest() const = 0;     // the most tokens that an example has
  virtual Example example(std::uint64_t seed, std::uint64_t index) const = 0;
  virtual std::string spell(std::int32_t token) const = 0;  // for people
};

// What a task can be asked for: whole numbers by name.
struct TaskParameter {
  std::string_view name;
  std::int64_t value;  // unless it is given
  std::int64_t low, high;
  std::string_view meaning;
  static constexpr bool whole = true;
};
using TaskValues = std::map<std::string, std::int64_t, std::less<>>;

struct TaskKind {
  std::string_view name;
  std::string_view meaning;
  std::vector<TaskParameter> parameters;
  // `values` has every parameter, within its bounds. kInvalidArgument for values that do not go together.
  Result<std::unique_ptr<Task>> (*make)(const TaskValues& values);
};

// All there are. A new task is a file and a line in task.cpp.
std::span<const TaskKind* const> task_kinds();
// kInvalidArgument for an unknown name or parameter, or a value outside its bounds; each is named.
Result<std::unique_ptr<Task>> make_task(std::string_view name, const TaskValues& values = {});

// Examples first … first + count - 1, one a row of T = task.longest().
Batch task_batch(const Task& task, std::uint64_t seed, std::uint64_t first, std::int64_t count);

// How many answers were right.
struct TaskScore {
  std::int64_t examples = 0, exact = 0;  // exact: all answers of the example are right
  std::int64_t answers = 0, right = 0;

  // Of one example: a prediction for each place; those without a label do not count.
  void add(std::span<const std::int32_t> labels, std::span<const std::int32_t> predictions);
  // Of a batch: predictions [B, T]. Each segment with labels is an example.
  void add(const Batch& batch, std::span<const std::int32_t> predictions);
  double accuracy() const;     // share of right answers
  double exact_match() const;  // share of examples without a wrong one
};

}  // namespace krait::train
