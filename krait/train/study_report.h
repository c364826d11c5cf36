// What came of a study (study_plan.h): the numbers of each run, and what they are over the seeds, as text for people
// and as JSON for programs. Pure: the runs are study_runs.h's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

inline constexpr std::string_view kOwnTask = "as trained", kHeldOutText = "held-out text";
// Of the test examples, where the evaluation was the best of the run ([evaluate] test).
inline constexpr std::string_view kTestOfBest = "test at the best evaluation";

// How well a run did at one thing: at its own task or held-out text, or at one of [[evaluate.task]].
struct StudyScore {
  std::string name;            // kOwnTask, kHeldOutText, or the evaluation's
  std::int64_t examples = 0;   // 0: not counted
  std::optional<double> loss;  // nats a token, of text
  double accuracy = 0.0;       // of a task
  double exact_match = 0.0;
  bool operator==(const StudyScore&) const = default;
};

// Everything but scores and parameters is over the whole run, however often it was interrupted.
struct StudyNumbers {
  std::string variant;
  std::int64_t seed = 0;
  std::int64_t steps = 0, parameters = 0, tokens = 0;
  double seconds = 0.0;  // of training steps
  std::vector<StudyScore> scores;
  bool operator==(const StudyNumbers&) const = default;
};

// The mean over the seeds, and the least and the most of them.
struct StudySpread {
  double mean = 0.0, least = 0.0, most = 0.0;
  std::vector<double> values;  // in the order of the runs
};

// A column of the table: what the score of that name is worth to every variant. Losses, or shares of right answers.
struct StudyColumn {
  std::string name;
  bool is_loss = false;
  std::vector<std::optional<StudySpread>> of_variants;  // parallel to the variants; nothing: no run has it yet
};
std::vector<StudyColumn> study_columns(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs);

// "98.43 % (97.10 – 99.20)", or losses.
std::string spread_text(const StudySpread& spread, bool is_loss);

// A row a variant: parameters, minutes of a run, the columns; as plain text in columns, and in Markdown.
std::string study_table(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs);
std::string study_markdown(std::string_view title, const std::vector<std::string>& variants,
                           const std::vector<StudyNumbers>& runs);
// Bars of the means with a point for each seed, a group of bars a column, as an SVG picture.
std::string study_chart(std::string_view title, const std::vector<std::string>& variants,
                        const std::vector<StudyNumbers>& runs);
std::string study_json(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs);

// How far a run has come, in its own folder: the configuration that it was begun with, and its numbers when it is done.
struct StudyRunRecord {
  std::string config;  // ConfigFile::json
  std::optional<StudyNumbers> numbers;
};
std::string record_text(const StudyRunRecord& record);
Result<StudyRunRecord> parse_record(std::string_view text, const std::string& origin);

// The first key, as "model.width", that the two configurations do not have the same, or nothing. What says how a run
// is watched, kept and told of counts for nothing: [evaluate], [checkpoint], [output].
std::string first_difference(std::string_view config, std::string_view other);

// Adds up tokens and seconds of log.jsonl, whose lines of steps are counted once however often a run was begun again.
struct StudyEffort {
  std::int64_t tokens = 0;
  double seconds = 0.0;
};
StudyEffort effort_of_log(std::string_view log);

}  // namespace krait::train
