// Synthetic tasks: what a sequence model can remember, look up, count and compute, in examples without end. Example
// `index` under `seed` is the same on every machine; other seeds give other data, so that a test set is another seed.
//
// Tasks over files have the examples of their files instead, whatever the seed, and others for validation and test.
//
// The labels stand where an answer is wanted and nowhere else. An answer is right when the likeliest token is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/batch.h"

namespace krait::train {

// What examples are for that nothing is learned from: to choose by, and to judge what was chosen.
enum class HeldOut : std::uint8_t { validation, test };

class Task {
 public:
  virtual ~Task() = default;
  virtual std::int64_t vocabulary() const = 0;  // tokens are 0 … vocabulary()-1, labels too
  virtual std::int64_t longest() const = 0;     // the most tokens that an example has
  virtual Example example(std::uint64_t seed, std::uint64_t index) const = 0;
  virtual std::string spell(std::int32_t token) const = 0;  // for people

  virtual std::int64_t examples() const { return 0; }  // how many there are; 0: without end
  // Examples that are another set than these. Null: there is none, this task under another seed is as good.
  virtual std::shared_ptr<const Task> held_out(HeldOut) const { return nullptr; }
  // Whether answers stand among the tokens that follow them, so that nobody must read backwards.
  virtual bool shows_answers() const { return false; }
  // The share of its places that self-pretraining hides (objective_masked.h).
  virtual double hidden_share() const { return 0.15; }
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

// Files that a task reads, by name.
struct TaskPath {
  std::string_view name;
  bool required;
  std::string_view meaning;
};
using TaskPaths = std::map<std::string, std::filesystem::path, std::less<>>;

struct TaskKind {
  std::string_view name;
  std::string_view meaning;
  std::vector<TaskParameter> parameters;
  // `values` has every parameter, within its bounds. kInvalidArgument for values that do not go together.
  Result<std::unique_ptr<Task>> (*make)(const TaskValues& values);
  // A task that reads files has paths, and `open` in place of `make`: `paths` has every required one.
  std::vector<TaskPath> paths = {};
  Result<std::unique_ptr<Task>> (*open)(const TaskValues& values, const TaskPaths& paths) = nullptr;
};

// All there are. A new task is a file and a line in task.cpp.
std::span<const TaskKind* const> task_kinds();
// kInvalidArgument for an unknown name, parameter or path, a value outside its bounds, a path that is missing; each is
// named. What is wrong with files is named with the file.
Result<std::unique_ptr<Task>> make_task(std::string_view name, const TaskValues& values = {},
                                        const TaskPaths& paths = {});

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
