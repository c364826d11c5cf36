// What a run has said, step by step: log.jsonl, which scripts read and people plot, and TensorBoard's events.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "krait/train/appended_file.h"
#include "krait/train/event_file.h"
#include "krait/train/trainer.h"

namespace krait::train {

struct CurriculumDecision;
struct EvaluationReport;

class RunLog {
 public:
  // Lines of the log from `first_step` on are of steps that will be taken again: they are taken off.
  static Result<RunLog> open(const std::filesystem::path& folder, std::int64_t first_step);

  void add(const StepReport& step);
  void add(const EvaluationReport& evaluation);
  void add(const CurriculumDecision& decision, std::span<const std::string> objectives);
  Result<void> flush();

 private:
  RunLog(AppendedFile lines, EventFile events) : lines_(std::move(lines)), events_(std::move(events)) {}

  AppendedFile lines_;
  EventFile events_;
};

}  // namespace krait::train
