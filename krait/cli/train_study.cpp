#include "krait/cli/train_study.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/run_view.h"
#include "krait/cli/terminal.h"
#include "krait/train/study_runs.h"

namespace krait::cli {
namespace {

std::string scores_text(const train::StudyNumbers& numbers) {
  std::string text;
  for (const train::StudyScore& score : numbers.scores) {
    text += text.empty() ? "" : ", ";
    text += score.loss ? fmt::format("{} {:.4f}", score.name, *score.loss)
                       : fmt::format("{} {:.2f} %", score.name, 100.0 * score.accuracy);
  }
  return text;
}

}  // namespace

int train_study(const TrainStudyOptions& options, train::ConfigFile& file) {
  train::StudyPlan plan = value_or_throw(train::expand_study(file));
  const std::vector<std::string> variants = plan.variants;
  std::unique_ptr<RunView> view;
  const auto note = [&](const std::string& text) {
    if (view != nullptr) {
      view->note(text);
    } else if (!options.quiet) {
      fmt::print(stderr, "{}\n", text);
    }
  };
  const InterruptGuard guard;
  train::StudyObserver observer;
  observer.begin = [&](const train::StudyRun& run, const train::RunConfig& config, std::size_t index,
                       std::size_t count) {
    view = std::make_unique<RunView>(config.pretraining.steps + config.trainer.schedule.steps, options.quiet);
    note(fmt::format("run {} of {}: {}", index + 1, count, run.name()));
    return view->observer();
  };
  observer.done = [&](const train::StudyNumbers& numbers, bool was_done) {
    note(fmt::format("{}/seed-{} {}: {}", numbers.variant, numbers.seed, was_done ? "was done" : "is done",
                     scores_text(numbers)));
  };
  observer.note = note;
  const train::StudyResult study =
      value_or_throw(train::run_study(options.config, std::move(plan), options.resume, observer));
  if (study.stopped) note(fmt::format("stopped with {} runs done; --resume goes on", study.runs.size()));
  if (options.json) {
    fmt::print("{}\n", nlohmann::ordered_json::parse(train::study_json(variants, study.runs)).dump());
  } else {
    fmt::print("{}{}\n", train::study_table(variants, study.runs), study.folder.string());
  }
  return study.stopped ? kInterruptedStatus : 0;
}

}  // namespace krait::cli
