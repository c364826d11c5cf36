// krait train: a run as a configuration says, shown as it goes. Part of the program krait-train, which alone is linked
// with libtorch: krait starts it, so that nothing else waits for libtorch to load.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "krait/cli/command.h"
#include "krait/cli/loss_curve.h"
#include "krait/cli/terminal.h"
#include "krait/nn/compute_threads.h"
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

std::string evaluation_text(const train::EvaluationReport& evaluation) {
  if (evaluation.is_task) {
    return fmt::format("answers right {:.2f} %, whole examples {:.2f} %", 100.0 * evaluation.accuracy,
                       100.0 * evaluation.exact_match);
  }
  return fmt::format("held-out loss {:.4f}, perplexity {:.2f}", evaluation.loss, std::exp(evaluation.loss));
}

nlohmann::ordered_json evaluation_json(const train::EvaluationReport& evaluation) {
  if (evaluation.is_task) return {{"accuracy", evaluation.accuracy}, {"exact_match", evaluation.exact_match}};
  return {{"loss", evaluation.loss}};
}

// A line on stderr now and then where nobody looks, the curve where somebody does.
class RunView {
 public:
  RunView(std::int64_t steps, bool quiet) : steps_(steps), quiet_(quiet), live_(is_terminal(stderr) && !quiet) {}

  void step(const train::StepReport& step) {
    curve_.add(static_cast<double>(step.step), step.loss);
    seconds_ += step.seconds;
    ++taken_;
    tokens_ += step.tokens;
    if (!step.taken)
      note(fmt::format("step {}: a gradient was not finite; parameters are left as they were", step.step));
    const auto now = std::chrono::steady_clock::now();
    if (quiet_ || now < next_) return;
    next_ = now + (live_ ? std::chrono::milliseconds(500) : std::chrono::milliseconds(10000));
    const double left = seconds_ / static_cast<double>(taken_) * static_cast<double>(steps_ - step.step - 1);
    const std::string line =
        fmt::format("step {}/{}  loss {:.4f}  rate {:.2e}  {:.0f} tokens/s  {} left", step.step + 1, steps_, step.loss,
                    step.rate, static_cast<double>(tokens_) / std::max(1e-9, seconds_), duration_text(left));
    if (!live_) {
      fmt::print(stderr, "{}\n", line);
      return;
    }
    wipe();
    const std::string drawn = curve_.draw(72, 10);
    fmt::print(stderr, "{}{}\n", drawn, line);
    lines_ = static_cast<int>(std::ranges::count(drawn, '\n')) + 1;
  }
  void note(const std::string& text) {
    if (quiet_) return;
    wipe();
    fmt::print(stderr, "{}\n", text);
  }

 private:
  static std::string duration_text(double seconds) {
    const auto whole = static_cast<std::int64_t>(seconds);
    return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  }
  void wipe() {
    if (lines_ > 0) fmt::print(stderr, "\033[{}A\033[J", lines_);
    lines_ = 0;
  }

  std::int64_t steps_;
  bool quiet_, live_;
  LossCurve curve_;
  double seconds_ = 0.0;
  std::int64_t taken_ = 0, tokens_ = 0;
  int lines_ = 0;
  std::chrono::steady_clock::time_point next_ = {};
};

int train_model(const TrainOptions& options) {
  if (options.threads > 0) nn::set_compute_threads(options.threads);
  const train::RunConfig config = value_or_throw(train::read_run_config(options.config));
  RunView view(config.trainer.schedule.steps, options.quiet);
  const InterruptGuard guard;
  train::RunObserver observer;
  observer.step = [&](const train::StepReport& step) { view.step(step); };
  observer.evaluation = [&](const train::EvaluationReport& evaluation) {
    view.note(fmt::format("after step {}: {}{}", evaluation.step + 1, evaluation_text(evaluation),
                          evaluation.is_best ? ", the best so far" : ""));
  };
  observer.checkpoint = [&](const train::CheckpointReport& report) {
    if (!report.committed) view.note(fmt::format("checkpoint was not written: {}", report.committed.error().message));
  };
  observer.note = [&](const std::string& text) { view.note(text); };
  observer.stop = [] { return InterruptGuard::interrupted(); };
  const auto run = value_or_throw(train::TrainingRun::open(config, options.resume, observer));
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
    fmt::print("{}\n", out.dump());
  } else {
    fmt::print("{} parameters, {} steps{}\n", count_text(result.parameters), result.steps,
               result.last_evaluation ? ": " + evaluation_text(*result.last_evaluation) : "");
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
      "  krait train run.toml --resume                     after Ctrl-C, or a kill\n"
      "  krait run -m runs/tales/model \"Once upon a time\"  what came of it");
  command->callback([options, &status] { status = train_model(*options); });
}

}  // namespace krait::cli
