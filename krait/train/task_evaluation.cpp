#include "krait/train/task_evaluation.h"

#include <algorithm>

namespace krait::train {
namespace {

constexpr std::int64_t kMostExamples = std::int64_t{1} << 32;

TaskEvaluation read_evaluation(ConfigTable& table, const TaskConfig& task) {
  TaskEvaluation evaluation{.name = {}, .task = task};
  const auto kinds = task_kinds();
  const TaskKind& kind = **std::ranges::find(kinds, task.name, &TaskKind::name);
  for (const TaskParameter& parameter : kind.parameters) {
    std::int64_t& value = evaluation.task.values.at(std::string(parameter.name));
    if (!table.has(parameter.name)) continue;
    table.read(parameter.name, value, parameter.low, parameter.high);
    evaluation.name += fmt::format("{}{} {}", evaluation.name.empty() ? "" : ", ", parameter.name, value);
  }
  table.read("examples", evaluation.examples, 1, kMostExamples);
  table.read("name", evaluation.name);
  if (evaluation.name.empty()) table.wrong("name", "is missing, and nothing differs from [task]");
  const auto learned = make_task(task), asked = make_task(evaluation.task);
  if (!asked) {
    table.wrong("name", fmt::format("cannot be asked: {}", asked.error().message));
  } else if (learned && (*asked)->vocabulary() != (*learned)->vocabulary()) {
    table.wrong("name", fmt::format("('{}') has {} different tokens, but the task has {}", evaluation.name,
                                    (*asked)->vocabulary(), (*learned)->vocabulary()));
  }
  return evaluation;
}

}  // namespace

std::vector<TaskEvaluation> read_task_evaluations(ConfigTable& evaluate, const std::optional<TaskConfig>& task) {
  std::vector<TaskEvaluation> evaluations;
  std::vector<ConfigTable> tables = evaluate.tables("task");
  if (!tables.empty() && !task) {
    evaluate.wrong("task", "asks a task other questions, but there is no [task]");
    return evaluations;
  }
  for (ConfigTable& table : tables) {
    TaskEvaluation evaluation = read_evaluation(table, *task);
    if (std::ranges::find(evaluations, evaluation.name, &TaskEvaluation::name) != evaluations.end()) {
      table.wrong("name", fmt::format("is '{}', as of another evaluation", evaluation.name));
    }
    evaluations.push_back(std::move(evaluation));
  }
  return evaluations;
}

std::int64_t evaluation_rows(const Task& task, std::int64_t tokens) {
  return std::max<std::int64_t>(1, tokens / std::max<std::int64_t>(1, task.longest()));
}

}  // namespace krait::train
