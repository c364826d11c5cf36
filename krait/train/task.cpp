#include "krait/train/task.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/train/parameter_values.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

constexpr const TaskKind* kKinds[] = {
    &kSelectiveCopying, &kInductionHeads,    &kAssociativeRecall, &kJointRecall,      &kPhoneBook,
    &kParity,           &kModularArithmetic, &kListOps,           &kSequentialImages,
};

Result<void> check_paths(const TaskKind& kind, const TaskPaths& paths) {
  for (const TaskPath& path : kind.paths) {
    if (!path.required || paths.contains(path.name)) continue;
    return fail(ErrorCode::kInvalidArgument, "[task] {} needs '{}': {}", kind.name, path.name, path.meaning);
  }
  for (const auto& [name, file] : paths) {
    if (std::ranges::find(kind.paths, name, &TaskPath::name) != kind.paths.end()) continue;
    return fail(ErrorCode::kInvalidArgument, "[task] {} reads no '{}' ({})", kind.name, name, file.string());
  }
  return {};
}

}  // namespace

std::span<const TaskKind* const> task_kinds() { return kKinds; }

Result<std::unique_ptr<Task>> make_task(std::string_view name, const TaskValues& values, const TaskPaths& paths) {
  KRAIT_ASSIGN(const TaskKind* kind, find_kind("task", task_kinds(), name));
  KRAIT_ASSIGN(const TaskValues all, complete_values("task", kind->name, kind->parameters, values));
  KRAIT_TRY(check_paths(*kind, paths));
  return kind->open != nullptr ? kind->open(all, paths) : kind->make(all);
}

Batch task_batch(const Task& task, std::uint64_t seed, std::uint64_t first, std::int64_t count) {
  std::vector<Example> examples;
  for (std::int64_t i = 0; i < count; ++i)
    examples.push_back(task.example(seed, first + static_cast<std::uint64_t>(i)));
  return batch_of(examples, task.longest(), 0);
}

void TaskScore::add(std::span<const std::int32_t> labels, std::span<const std::int32_t> predictions) {
  KRAIT_CHECK_EQ(labels.size(), predictions.size());
  std::int64_t wanted = 0, good = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == kNoLabel) continue;
    ++wanted;
    good += labels[i] == predictions[i] ? 1 : 0;
  }
  if (wanted == 0) return;
  ++examples;
  exact += good == wanted ? 1 : 0;
  answers += wanted;
  right += good;
}

void TaskScore::add(const Batch& batch, std::span<const std::int32_t> predictions) {
  KRAIT_CHECK_EQ(batch.labels.size(), predictions.size());
  const std::span labels(batch.labels);
  for (const BatchSegment& segment : batch.segments) {
    const auto first = static_cast<std::size_t>(segment.first);
    const auto rows = static_cast<std::size_t>(segment.rows);
    add(labels.subspan(first, rows), predictions.subspan(first, rows));
  }
}

double TaskScore::accuracy() const {
  return answers == 0 ? 0 : static_cast<double>(right) / static_cast<double>(answers);
}

double TaskScore::exact_match() const {
  return examples == 0 ? 0 : static_cast<double>(exact) / static_cast<double>(examples);
}

}  // namespace krait::train
