// Runs a study (study_plan.h): one training after the other, each as if it had been started alone, with its folder, its
// checkpoints and its log. In the study's folder, after every run that ends: study.json, study.md, study.svg. In a
// run's: run.json, which says what it was begun with and, when it is done, its numbers.
#pragma once

#include <functional>

#include "krait/train/study_plan.h"
#include "krait/train/study_report.h"
#include "krait/train/training_run.h"

namespace krait::train {

struct StudyObserver {
  // Before a run, `index` of `count`: what it shall tell. Its `stop` ends the study too, as an interruption.
  std::function<RunObserver(const StudyRun& run, const RunConfig& config, std::size_t index, std::size_t count)> begin;
  // A run that was done already, or is now.
  std::function<void(const StudyNumbers& numbers, bool was_done)> done = {};
  std::function<void(const std::string& text)> note = {};
};

struct StudyResult {
  std::vector<StudyNumbers> runs;  // that are done
  std::filesystem::path folder;
  bool stopped = false;
};

// `path`: of the configuration, which paths in it are relative to. With `resume`, what is done is not run again, and
// what has a checkpoint goes on from it; kInvalidArgument where a run was begun with other settings.
Result<StudyResult> run_study(const std::filesystem::path& path, StudyPlan plan, bool resume,
                              const StudyObserver& observer);

}  // namespace krait::train
