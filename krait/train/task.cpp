#include "krait/train/task.h"

#include <algorithm>

#include "krait/core/check.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

constexpr const TaskKind* kKinds[] = {
    &kSelectiveCopying, &kInductionHeads, &kAssociativeRecall, &kJointRecall,
    &kPhoneBook,        &kParity,         &kModularArithmetic, &kListOps,
};

template <class Named>
std::string names_of(const Named& all) {
  std::string names;
  for (const auto& one : all) {
    if (!names.empty()) names += ", ";
    names += one;
  }
  return names;
}

}  // namespace

std::span<const TaskKind* const> task_kinds() { return kKinds; }

Result<std::unique_ptr<Task>> make_task(std::string_view name, const TaskValues& values) {
  const auto found = std::ranges::find(kKinds, name, &TaskKind::name);
  if (found == std::end(kKinds)) {
    std::vector<std::string> names;
    for (const TaskKind* kind : kKinds) names.emplace_back(kind->name);
    return fail(ErrorCode::kInvalidArgument, "[task] there is no task '{}'; there are {}", name, names_of(names));
  }
  const TaskKind& kind = **found;
  TaskValues all;
  for (const TaskParameter& parameter : kind.parameters) {
    const auto given = values.find(parameter.name);
    const std::int64_t value = given == values.end() ? parameter.value : given->second;
    if (value < parameter.low || value > parameter.high) {
      return fail(ErrorCode::kInvalidArgument, "[task] {} of {} ({}) is {}, not from {} to {}", parameter.name, name,
                  parameter.meaning, value, parameter.low, parameter.high);
    }
    all.emplace(parameter.name, value);
  }
  for (const auto& [key, value] : values) {
    if (all.contains(key)) continue;
    std::vector<std::string> names;
    for (const TaskParameter& parameter : kind.parameters) names.emplace_back(parameter.name);
    return fail(ErrorCode::kInvalidArgument, "[task] {} has no parameter '{}'; it has {}", name, key, names_of(names));
  }
  return kind.make(all);
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
