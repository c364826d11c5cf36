#include "krait/train/run_log.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/atomic_file.h"
#include "krait/train/curriculum.h"
#include "krait/train/training_run.h"

namespace krait::train {
namespace {

using Json = nlohmann::ordered_json;

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<RunLog> RunLog::open(const std::filesystem::path& folder, std::int64_t first_step) {
  KRAIT_ASSIGN(EventFile events, EventFile::create(folder, wall_seconds()));
  const auto path = folder / "log.jsonl";
  std::string kept;
  if (std::ifstream in(path); in) {
    for (std::string line; std::getline(in, line);) {
      const Json entry = Json::parse(line, nullptr, false);
      // A line that is cut off is the last one of a run that was killed.
      if (entry.is_object() && entry.value("step", first_step) < first_step) kept += line + "\n";
    }
  }
  formats::AtomicFile file(path);
  file.write(kept.data(), kept.size());
  KRAIT_TRY(file.commit("train"));
  KRAIT_ASSIGN(AppendedFile lines, AppendedFile::open(path, AppendedFile::Begin::kAsItIs));
  return RunLog(std::move(lines), std::move(events));
}

void RunLog::add(const StepReport& step) {
  Json line{
      {"step", step.step},   {"loss", step.loss},     {"rate", step.rate},      {"gradient_norm", step.gradient_norm},
      {"taken", step.taken}, {"tokens", step.tokens}, {"seconds", step.seconds}};
  if (step.pretraining) line["phase"] = "pretrain";
  lines_.add(line.dump() + "\n");
  const double now = wall_seconds();
  const std::string phase = step.pretraining ? "pretrain/" : "train/";
  events_.scalar(phase + "loss", step.step, step.loss, now);
  events_.scalar(phase + "rate", step.step, step.rate, now);
  events_.scalar(phase + "gradient_norm", step.step, step.gradient_norm, now);
  if (step.seconds > 0.0) {
    events_.scalar(phase + "tokens_per_second", step.step, static_cast<double>(step.tokens) / step.seconds, now);
  }
}

void RunLog::add(const EvaluationReport& evaluation) {
  Json line{{"step", evaluation.step}};
  std::string tag = "evaluate/";
  if (!evaluation.name.empty()) {
    line["task"] = evaluation.name;
    line["examples"] = evaluation.examples;
    tag += evaluation.name + "/";
  }
  const double now = wall_seconds();
  const auto both = [&](const char* name, double value) {
    line[name] = value;
    events_.scalar(tag + name, evaluation.step, value, now);
  };
  if (evaluation.is_task) {
    both("accuracy", evaluation.accuracy);
    both("exact_match", evaluation.exact_match);
    if (evaluation.test_accuracy) both("test_accuracy", *evaluation.test_accuracy);
  } else {
    both("evaluation_loss", evaluation.loss);
  }
  for (const EvaluationReport::Objective& objective : evaluation.objectives) {
    line["objectives"][objective.name] = {{"loss", objective.loss}, {"weight", objective.weight}};
    events_.scalar("objective/" + objective.name, evaluation.step, objective.loss, now);
  }
  lines_.add(line.dump() + "\n");
}

// With the step that was taken last, so that a run that goes on keeps the decisions that it has in its checkpoint.
void RunLog::add(const CurriculumDecision& decision, std::span<const std::string> objectives) {
  const std::int64_t step = std::max<std::int64_t>(0, decision.step - 1);
  Json line{{"step", step}, {"expected_reward", decision.expected}, {"drawn", decision.drawn}};
  const double now = wall_seconds();
  for (std::size_t i = 0; i < objectives.size(); ++i) {
    Json& of = line["mixture"][objectives[i]];
    of = {{"share", decision.mixture[i]}, {"loss", decision.losses[i]}};
    if (!decision.rewards.empty()) of["reward"] = decision.rewards[i];
    events_.scalar("mixture/" + objectives[i], step, decision.mixture[i], now);
  }
  lines_.add(line.dump() + "\n");
}

Result<void> RunLog::flush() {
  const Result<void> lines = lines_.flush(), events = events_.flush();
  return lines.has_value() ? events : lines;
}

}  // namespace krait::train
