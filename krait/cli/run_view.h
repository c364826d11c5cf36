// A run of training as people see it while it goes: a line on stderr now and then where nobody looks, the curve of its
// loss where somebody does.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "krait/cli/loss_curve.h"
#include "krait/train/training_run.h"

namespace krait::cli {

// "answers right 98.43 %, whole examples 91.00 %", after the name of what was asked.
std::string evaluation_text(const train::EvaluationReport& evaluation);

class RunView {
 public:
  // `steps` of pretraining and training together.
  RunView(std::int64_t steps, bool quiet);

  void step(const train::StepReport& step);
  void note(const std::string& text);
  // What tells a run's steps to this view, which must outlive it, and stops the run at Ctrl-C (terminal.h).
  train::RunObserver observer();

 private:
  void wipe();

  std::int64_t steps_;
  bool quiet_, live_;
  bool pretraining_ = false;  // the last step was of it
  LossCurve curve_;
  double seconds_ = 0.0;
  std::int64_t taken_ = 0, tokens_ = 0;
  int lines_ = 0;
  std::chrono::steady_clock::time_point next_ = {};
};

}  // namespace krait::cli
