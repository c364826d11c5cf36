#include "krait/train/study_runs.h"

#include <fstream>
#include <iterator>

#include "krait/formats/atomic_file.h"

namespace krait::train {
namespace {

constexpr const char* kRecord = "run.json";

Result<void> write_text(const std::filesystem::path& path, const std::string& text) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  if (error) {
    return fail(ErrorCode::kInputOutput, "[study] cannot make {}: {}", path.parent_path().string(), error.message());
  }
  formats::AtomicFile file(path);
  file.write(text.data(), text.size());
  return file.commit("study");
}

std::optional<std::string> text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// What a run that is to go on was begun with: nothing where it was not begun.
Result<std::optional<StudyRunRecord>> record_of(const std::filesystem::path& folder, const std::string& config) {
  const std::filesystem::path path = folder / kRecord;
  const std::optional<std::string> text = text_of(path);
  if (!text) return std::nullopt;
  KRAIT_ASSIGN(StudyRunRecord record, parse_record(*text, path.string()));
  if (const std::string key = first_difference(record.config, config); !key.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[study] {} was begun with another {}: remove the folder, or leave --resume out to run all again",
                folder.string(), key);
  }
  return record;
}

StudyScore score_of(const EvaluationReport& report) {
  StudyScore score{.name = report.name, .examples = report.examples, .loss = {}};
  if (score.name.empty()) score.name = report.is_task ? kOwnTask : kHeldOutText;
  if (!report.is_task) score.loss = report.loss;
  score.accuracy = report.accuracy;
  score.exact_match = report.exact_match;
  return score;
}

StudyNumbers numbers_of(const StudyRun& run, const RunResult& result, const std::filesystem::path& folder) {
  StudyNumbers numbers{
      .variant = run.variant, .seed = run.seed, .steps = result.steps, .parameters = result.parameters, .scores = {}};
  const StudyEffort effort = effort_of_log(text_of(folder / "log.jsonl").value_or(""));
  numbers.tokens = effort.tokens;
  numbers.seconds = effort.seconds;
  if (result.last_evaluation) numbers.scores.push_back(score_of(*result.last_evaluation));
  if (result.best_evaluation && result.best_evaluation->test_accuracy) {
    numbers.scores.push_back({.name = std::string(kTestOfBest),
                              .examples = 0,
                              .loss = {},
                              .accuracy = *result.best_evaluation->test_accuracy,
                              .exact_match = 0.0});
  }
  for (const EvaluationReport& report : result.task_evaluations) numbers.scores.push_back(score_of(report));
  return numbers;
}

// A run that was killed before its first checkpoint begins again.
Result<std::unique_ptr<TrainingRun>> open_run(const RunConfig& config, bool resume, const RunObserver& observer) {
  if (resume) {
    auto run = TrainingRun::open(config, true, observer);
    if (run || run.error().code != ErrorCode::kNotFound) return run;
  }
  return TrainingRun::open(config, false, observer);
}

Result<void> write_report(const StudyResult& study, const std::string& title,
                          const std::vector<std::string>& variants) {
  KRAIT_TRY(write_text(study.folder / "study.json", study_json(variants, study.runs)));
  KRAIT_TRY(write_text(study.folder / "study.md", study_markdown(title, variants, study.runs)));
  return write_text(study.folder / "study.svg", study_chart(title, variants, study.runs));
}

}  // namespace

Result<StudyResult> run_study(const std::filesystem::path& path, StudyPlan plan, bool resume,
                              const StudyObserver& observer) {
  const std::filesystem::path base = path.parent_path();
  StudyResult study{.runs = {}, .folder = base / plan.folder};
  // What is wrong in the last run is said before the first begins.
  std::vector<RunConfig> configs;
  std::vector<std::string> texts;
  for (StudyRun& run : plan.runs) {
    texts.push_back(run.config.json());
    KRAIT_ASSIGN(RunConfig config, read_run_config(run.config, base));
    configs.push_back(std::move(config));
  }
  for (std::size_t i = 0; i < plan.runs.size() && !study.stopped; ++i) {
    const StudyRun& run = plan.runs[i];
    const RunConfig& config = configs[i];
    std::optional<StudyRunRecord> record;
    if (resume) {
      KRAIT_ASSIGN(record, record_of(config.folder, texts[i]));
    }
    if (record && record->numbers && record->config == texts[i]) {
      study.runs.push_back(*record->numbers);
      if (observer.done) observer.done(study.runs.back(), true);
      continue;
    }
    KRAIT_TRY(write_text(config.folder / kRecord, record_text({.config = texts[i], .numbers = {}})));
    const RunObserver run_observer = observer.begin ? observer.begin(run, config, i, plan.runs.size()) : RunObserver();
    KRAIT_ASSIGN(const std::unique_ptr<TrainingRun> opened, open_run(config, record.has_value(), run_observer));
    KRAIT_ASSIGN(const RunResult result, opened->run());
    const bool interrupted = run_observer.stop && run_observer.stop();
    // Models without a published layout stay in their checkpoints.
    if (const auto exported = opened->export_to({}); !exported && observer.note) {
      observer.note(exported.error().message);
    }
    if (interrupted && result.stopped) {
      study.stopped = true;
      break;
    }
    StudyNumbers numbers = numbers_of(run, result, config.folder);
    KRAIT_TRY(write_text(config.folder / kRecord, record_text({.config = texts[i], .numbers = numbers})));
    if (observer.done) observer.done(numbers, false);
    study.runs.push_back(std::move(numbers));
    KRAIT_TRY(write_report(study, path.stem().string(), plan.variants));
    study.stopped = interrupted;
  }
  KRAIT_TRY(write_report(study, path.stem().string(), plan.variants));
  return study;
}

}  // namespace krait::train
