// krait train: a run as a configuration says, shown as it goes. Part of the program krait-train, which alone is linked
// with libtorch: krait starts it, so that nothing else waits for libtorch to load.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "krait/cli/cmd_train_processes.h"
#include "krait/cli/command.h"
#include "krait/cli/run_view.h"
#include "krait/cli/terminal.h"
#include "krait/cli/train_study.h"
#include "krait/train/resident_memory.h"
#include "krait/train/study_plan.h"
#include "krait/train/tensor_memory.h"
#include "krait/train/training_run.h"

namespace krait::cli {
namespace {

struct TrainOptions {
  std::string config;
  bool resume = false;
  bool plan = false;
  bool json = false;
  bool quiet = false;
  int threads = 0;
  std::string export_folder;
  ProcessesOptions processes;
};

nlohmann::ordered_json evaluation_json(const train::EvaluationReport& evaluation) {
  if (!evaluation.is_task) {
    nlohmann::ordered_json out{{"loss", evaluation.loss}};
    for (const auto& objective : evaluation.objectives) out["objectives"][objective.name] = objective.loss;
    return out;
  }
  nlohmann::ordered_json out{{"accuracy", evaluation.accuracy}, {"exact_match", evaluation.exact_match}};
  if (evaluation.test_accuracy) out["test_accuracy"] = *evaluation.test_accuracy;
  return out;
}

nlohmann::ordered_json memory_json(const train::MemoryPlan& plan) {
  return {{"predicted", plan.predicted()}, {"limit", plan.limit},     {"program", plan.program}, {"held", plan.held},
          {"step", plan.working},          {"buffers", plan.buffers}, {"state", plan.state},     {"file", plan.file}};
}

// What a run would have of memory.
int show_plan(const train::RunConfig& config, bool json) {
  if (!config.memory.any()) {
    throw UserError("the configuration has no [memory]", "--plan tells what a run with one takes");
  }
  const train::MemoryPlan plan = value_or_throw(train::TrainingRun::plan(config));
  fmt::print("{}\n", json ? memory_json(plan).dump() : plan.text());
  return 0;
}

// This process's part of a run: all of it, unless it is one of several.
int train_run(const TrainOptions& options, const train::RunConfig& config, bool resume, train::ProcessGroup* group) {
  RunView view(config.pretraining.steps + config.trainer.schedule.steps, options.quiet);
  const InterruptGuard guard;
  train::RunObserver observer = view.observer();
  // Rank 0 speaks for all.
  const bool speaks = group == nullptr || group->is_first();
  if (!speaks) observer = {.stop = observer.stop};
  const auto run = value_or_throw(train::TrainingRun::open(config, resume, observer, group));
  const train::RunResult result = value_or_throw(run->run());
  if (!speaks) return result.interrupted ? kInterruptedStatus : 0;
  if (result.interrupted) {
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
    if (const train::MemoryPlan* plan = run->memory_plan(); plan != nullptr) {
      out["memory"] = memory_json(*plan);
      out["memory"]["peak"] = train::peak_resident_bytes();
    }
    if (result.last_evaluation) out["evaluation"] = evaluation_json(*result.last_evaluation);
    if (result.best_evaluation) {
      out["best"] = evaluation_json(*result.best_evaluation);
      out["best"]["step"] = result.best_evaluation->step;
    }
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
  return result.interrupted ? kInterruptedStatus : 0;
}

std::vector<std::string> arguments_of_rank(const TrainOptions& options) {
  std::vector<std::string> words = {"train", options.config};
  if (options.resume) words.emplace_back("--resume");
  if (options.json) words.emplace_back("--json");
  if (options.quiet) words.emplace_back("--quiet");
  if (options.threads > 0) words.push_back(fmt::format("--threads={}", options.threads));
  if (!options.export_folder.empty()) words.push_back("--export=" + options.export_folder);
  words.push_back(fmt::format("--timeout={}", options.processes.timeout));
  return words;
}

int train_model(const TrainOptions& options) {
  // Runs that are held to a limit give it back all the same (memory_plan.h).
  train::keep_tensor_memory();
  const std::optional<train::ProcessPlace> place = value_or_throw(train::process_place(train::process_environment()));
  const bool is_one_of_several = place && place->ranks > 1;
  train::ConfigFile file = value_or_throw(train::ConfigFile::open(options.config));
  if (train::is_study(file)) {
    if (options.processes.count > 0 || is_one_of_several) {
      throw UserError("a study in several processes",
                      "its runs can be trained so, each with a configuration of its own");
    }
    if (!options.export_folder.empty()) {
      throw UserError("--export with a study", "it has many models: each run's is in model/ of its own folder");
    }
    use_threads(options.threads, nullptr);
    return train_study({options.config, options.resume, options.json, options.quiet}, file);
  }
  const train::RunConfig config =
      value_or_throw(train::read_run_config(file, std::filesystem::path(options.config).parent_path()));
  if (options.plan) {
    use_threads(options.threads, nullptr);
    return show_plan(config, options.json);
  }
  if (options.processes.count > 0) {
    return train_in_processes(config, place, options.processes, arguments_of_rank(options), options.quiet);
  }
  const auto group = is_one_of_several ? join_processes(*place, options.config, options.processes) : nullptr;
  use_threads(options.threads, group.get());
  // Launchers start with the same words again and again.
  const bool resume = options.resume && (!place || has_checkpoint(config));
  if (options.resume && !resume && !options.quiet && place->rank == 0) {
    fmt::print(stderr, "no checkpoint yet in {}: from the beginning\n", config.checkpoint.folder.string());
  }
  try {
    return train_run(options, config, resume, group.get());
  } catch (const std::exception& error) {
    if (group != nullptr) group->leave(error.what());
    throw;
  }
}

}  // namespace

void add_train(CLI::App& program, int& status) {
  auto* command = program.add_subcommand("train", "Train a model as a configuration says");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("config", options->config, "The run's configuration, TOML (docs/training.md)")->required();
  command->add_flag("--resume", options->resume, "Go on from the newest checkpoint, to the bit as without the stop");
  command->add_flag("--plan", options->plan,
                    "Say what the run would have of memory, for a configuration with [memory]");
  command->add_option("--threads", options->threads, "Threads; one for each core unless given")
      ->check(CLI::Range(1, 4096));
  command->add_option("--export", options->export_folder,
                      "Folder of the model at the end; model/ in the run's folder unless given");
  command->add_flag("--json", options->json, "One line of JSON at the end, for scripts");
  command->add_flag("-q,--quiet", options->quiet, "Nothing on stderr but errors");
  add_processes_options(*command, options->processes);
  command->footer(
      "Examples:\n"
      "  krait train examples/train/induction_heads.toml   a synthetic task, in half a minute\n"
      "  krait train examples/train/parity.toml            a study: several models, each with several seeds\n"
      "  krait train run.toml --resume                     after Ctrl-C, or a kill\n"
      "  krait train run.toml --processes 4 --restarts 3   several processes (docs/training_across_machines.md)\n"
      "  krait run -m runs/tales/model \"Once upon a time\"  what came of it");
  command->callback([options, &status] { status = train_model(*options); });
}

}  // namespace krait::cli
