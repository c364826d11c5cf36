// krait train: a run as a configuration says, shown as it goes. Part of the program krait-train, which alone is linked
// with libtorch: krait starts it, so that nothing else waits for libtorch to load.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/run_view.h"
#include "krait/cli/terminal.h"
#include "krait/cli/train_study.h"
#include "krait/nn/compute_threads.h"
#include "krait/train/study_plan.h"
#include "krait/train/training_run.h"

namespace krait::cli {
namespace {

struct TrainOptions {
  std::string config;
  bool resume = false;
  bool json = false;
  bool quiet = false;
  int threads = 0;
  std::string export_folder;
};

nlohmann::ordered_json evaluation_json(const train::EvaluationReport& evaluation) {
  if (evaluation.is_task) return {{"accuracy", evaluation.accuracy}, {"exact_match", evaluation.exact_match}};
  nlohmann::ordered_json out{{"loss", evaluation.loss}};
  for (const auto& objective : evaluation.objectives) out["objectives"][objective.name] = objective.loss;
  return out;
}

int train_model(const TrainOptions& options) {
  if (options.threads > 0) nn::set_compute_threads(options.threads);
  train::ConfigFile file = value_or_throw(train::ConfigFile::open(options.config));
  if (train::is_study(file)) {
    if (!options.export_folder.empty()) {
      throw UserError("--export with a study", "it has many models: each run's is in model/ of its own folder");
    }
    return train_study({options.config, options.resume, options.json, options.quiet}, file);
  }
  const train::RunConfig config =
      value_or_throw(train::read_run_config(file, std::filesystem::path(options.config).parent_path()));
  RunView view(config.trainer.schedule.steps, options.quiet);
  const InterruptGuard guard;
  const auto run = value_or_throw(train::TrainingRun::open(config, options.resume, view.observer()));
  const train::RunResult result = value_or_throw(run->run());
  const bool interrupted = InterruptGuard::interrupted();
  if (interrupted) {
    view.note(config.checkpoint_every > 0 ? fmt::format("stopped after {} steps; --resume goes on", result.steps)
                                          : fmt::format("stopped after {} steps, without a checkpoint", result.steps));
  }
  const auto exported = run->export_to(options.export_folder);
  if (!exported) view.note(exported.error().message);
  if (options.json) {
    nlohmann::ordered_json out{{"steps", result.steps},
                               {"parameters", result.parameters},
                               {"stopped", result.stopped},
                               {"folder", config.folder.string()}};
    if (result.last_evaluation) out["evaluation"] = evaluation_json(*result.last_evaluation);
    for (const train::EvaluationReport& evaluation : result.task_evaluations) {
      nlohmann::ordered_json entry{{"name", evaluation.name}, {"examples", evaluation.examples}};
      entry.update(evaluation_json(evaluation));
      out["evaluations"].push_back(std::move(entry));
    }
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("{} parameters, {} steps{}\n", count_text(result.parameters), result.steps,
               result.last_evaluation ? ": " + evaluation_text(*result.last_evaluation) : "");
    for (const train::EvaluationReport& evaluation : result.task_evaluations) {
      fmt::print("{}\n", evaluation_text(evaluation));
    }
    if (exported) fmt::print("{}\n", exported->string());
  }
  return interrupted ? kInterruptedStatus : 0;
}

}  // namespace

void add_train(CLI::App& program, int& status) {
  auto* command = program.add_subcommand("train", "Train a model as a configuration says");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("config", options->config, "The run's configuration, TOML (docs/training.md)")->required();
  command->add_flag("--resume", options->resume, "Go on from the newest checkpoint, to the bit as without the stop");
  command->add_option("--threads", options->threads, "Threads; one for each core unless given")
      ->check(CLI::Range(1, 4096));
  command->add_option("--export", options->export_folder,
                      "Folder of the model at the end; model/ in the run's folder unless given");
  command->add_flag("--json", options->json, "One line of JSON at the end, for scripts");
  command->add_flag("-q,--quiet", options->quiet, "Nothing on stderr but errors");
  command->footer(
      "Examples:\n"
      "  krait train examples/train/induction_heads.toml   a synthetic task, in half a minute\n"
      "  krait train examples/train/parity.toml            a study: several models, each with several seeds\n"
      "  krait train run.toml --resume                     after Ctrl-C, or a kill\n"
      "  krait run -m runs/tales/model \"Once upon a time\"  what came of it");
  command->callback([options, &status] { status = train_model(*options); });
}

}  // namespace krait::cli
