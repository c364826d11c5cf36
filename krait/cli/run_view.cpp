#include "krait/cli/run_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "krait/cli/terminal.h"

namespace krait::cli {
namespace {

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

std::string evaluation_text(const train::EvaluationReport& evaluation) {
  if (!evaluation.is_task) {
    std::string text =
        fmt::format("held-out loss {:.4f}, perplexity {:.2f}", evaluation.loss, std::exp(evaluation.loss));
    double sum = 0.0;
    for (const auto& objective : evaluation.objectives) sum += objective.weight;
    for (const auto& objective : evaluation.objectives) {
      text += fmt::format(", {} {:.3f} ({:.0f} %)", objective.name, objective.loss, 100.0 * objective.weight / sum);
    }
    return text;
  }
  std::string text =
      fmt::format("{}{}answers right {:.2f} %, whole examples {:.2f} %", evaluation.name,
                  evaluation.name.empty() ? "" : ": ", 100.0 * evaluation.accuracy, 100.0 * evaluation.exact_match);
  if (evaluation.test_accuracy) text += fmt::format(", of the test {:.2f} %", 100.0 * *evaluation.test_accuracy);
  return text;
}

RunView::RunView(std::int64_t steps, bool quiet) : steps_(steps), quiet_(quiet), live_(is_terminal(stderr) && !quiet) {}

void RunView::step(const train::StepReport& step) {
  if (pretraining_ && !step.pretraining) {
    // The curve of pretraining stays above; losses of the task begin one of their own.
    lines_ = 0;
    curve_ = {};
    note("pretraining is done, the task begins");
  }
  pretraining_ = step.pretraining;
  curve_.add(static_cast<double>(step.step), step.loss);
  seconds_ += step.seconds;
  ++taken_;
  tokens_ += step.tokens;
  if (!step.taken) {
    note(fmt::format("step {}: a gradient was not finite; parameters are left as they were", step.step));
  }
  const auto now = std::chrono::steady_clock::now();
  if (quiet_ || now < next_) return;
  next_ = now + (live_ ? std::chrono::milliseconds(500) : std::chrono::milliseconds(10000));
  const double left = seconds_ / static_cast<double>(taken_) * static_cast<double>(steps_ - step.step - 1);
  const std::string line =
      fmt::format("{}step {}/{}  loss {:.4f}  rate {:.2e}  {:.0f} tokens/s  {} left",
                  step.pretraining ? "pretraining " : "", step.step + 1, steps_, step.loss, step.rate,
                  static_cast<double>(tokens_) / std::max(1e-9, seconds_), duration_text(left));
  if (!live_) {
    fmt::print(stderr, "{}\n", line);
    return;
  }
  wipe();
  const std::string drawn = curve_.draw(72, 10);
  fmt::print(stderr, "{}{}\n", drawn, line);
  lines_ = static_cast<int>(std::ranges::count(drawn, '\n')) + 1;
}

void RunView::note(const std::string& text) {
  if (quiet_) return;
  wipe();
  fmt::print(stderr, "{}\n", text);
}

train::RunObserver RunView::observer() {
  return {.step = [this](const train::StepReport& report) { step(report); },
          .evaluation =
              [this](const train::EvaluationReport& evaluation) {
                const std::int64_t done = evaluation.step + (evaluation.name.empty() ? 1 : 0);
                note(fmt::format("after step {}: {}{}", done, evaluation_text(evaluation),
                                 evaluation.is_best ? ", the best so far" : ""));
              },
          .checkpoint =
              [this](const train::CheckpointReport& report) {
                if (!report.committed) {
                  note(fmt::format("checkpoint was not written: {}", report.committed.error().message));
                }
              },
          .note = [this](const std::string& text) { note(text); },
          .stop = [] { return InterruptGuard::interrupted(); }};
}

void RunView::wipe() {
  if (lines_ > 0) fmt::print(stderr, "\033[{}A\033[J", lines_);
  lines_ = 0;
}

}  // namespace krait::cli
