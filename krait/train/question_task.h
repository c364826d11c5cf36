// Questions with answers, from files, as a task: fine-tuning on examples of one's own, and whether answers are right.
//
//   [questions]
//   train = ["train.jsonl"]        lines {"prompt": "…", "answer": "…"}
//   test = ["test.jsonl"]          evaluated; never learned from
//   both_ways = true               prompts are read in both directions, as the prefixes of objectives
//
// An example has the form of objectives (objective.h): prompt, separator, answer, end. So a run that was trained on
// objectives goes on in a form that it knows.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "krait/train/config_file.h"
#include "krait/train/objective.h"
#include "krait/train/task.h"

namespace krait::train {

struct QuestionConfig {
  std::vector<std::string> train, test;
  bool both_ways = true;
};
// What is wrong is noted. Relative paths stay as they are.
QuestionConfig read_questions(ConfigTable table);

class QuestionTask final : public Task {
 public:
  // kInvalidArgument for no questions at all.
  static Result<std::shared_ptr<const QuestionTask>> make(std::vector<Example> examples, std::int64_t vocabulary);

  std::int64_t vocabulary() const override { return vocabulary_; }
  std::int64_t longest() const override { return longest_; }
  bool shows_answers() const override { return true; }
  // All in an order of the seed, then all again in another.
  Example example(std::uint64_t seed, std::uint64_t index) const override;
  std::string spell(std::int32_t token) const override { return std::to_string(token); }
  std::int64_t count() const { return static_cast<std::int64_t>(examples_.size()); }

 private:
  QuestionTask(std::vector<Example> examples, std::int64_t vocabulary);
  std::vector<Example> examples_;
  std::int64_t vocabulary_, longest_ = 0;
};

// Lines of JSON as examples. kCorrupt names file and line of one that is no question.
Result<std::vector<Example>> read_questions(std::string_view lines, const std::string& origin, bool both_ways,
                                            const formats::Tokenizer& tokenizer, const ObjectiveTokens& tokens);

struct QuestionTasks {
  std::shared_ptr<const QuestionTask> train, test;  // no test files: null
};
// `tokenizer`: a tokenizer.json with the special tokens of objectives.
Result<QuestionTasks> open_questions(const QuestionConfig& config, const std::string& tokenizer);

}  // namespace krait::train
