// What a run has said, step by step: log.jsonl, which scripts read and people plot, and TensorBoard's events.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>

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
  // Open for the whole run, so that a line costs one call of the system.
  class Lines {
   public:
    explicit Lines(int descriptor) : descriptor_(descriptor) {}
    Lines(Lines&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    Lines& operator=(Lines&&) = delete;
    ~Lines();
    // Takes from `text` what was written, which may be a part of it.
    bool write(std::string& text) const;

   private:
    int descriptor_;
  };

  RunLog(std::filesystem::path path, Lines lines, EventFile events)
      : path_(std::move(path)), lines_(std::move(lines)), events_(std::move(events)) {}

  std::filesystem::path path_;
  std::string waiting_;  // lines that are not written yet
  Lines lines_;
  EventFile events_;
};

}  // namespace krait::train
