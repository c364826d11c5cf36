#include "krait/train/question_task.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "krait/formats/mapped_file.h"
#include "krait/train/data_permutation.h"
#include "krait/train/data_tokenizer.h"

namespace krait::train {
namespace {

using Json = nlohmann::json;

Result<std::shared_ptr<const QuestionTask>> open_task(const std::vector<std::string>& files, bool both_ways,
                                                      const formats::Tokenizer& tokenizer,
                                                      const ObjectiveTokens& tokens) {
  std::vector<Example> all;
  for (const std::string& path : files) {
    KRAIT_ASSIGN(const auto file, formats::MappedFile::open(path));
    KRAIT_ASSIGN(const std::vector<Example> examples,
                 read_questions({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, path,
                                both_ways, tokenizer, tokens));
    all.insert(all.end(), examples.begin(), examples.end());
  }
  return QuestionTask::make(std::move(all), tokenizer.size());
}

}  // namespace

QuestionConfig read_questions(ConfigTable table) {
  QuestionConfig config;
  table.read("train", config.train);
  table.read("test", config.test);
  table.read("both_ways", config.both_ways);
  if (!table.empty() && config.train.empty()) table.wrong("train", "names no files of questions to learn from");
  return config;
}

QuestionTask::QuestionTask(std::vector<Example> examples, std::int64_t vocabulary)
    : examples_(std::move(examples)), vocabulary_(vocabulary) {
  for (const Example& example : examples_) longest_ = std::max(longest_, example.length());
}

Result<std::shared_ptr<const QuestionTask>> QuestionTask::make(std::vector<Example> examples, std::int64_t vocabulary) {
  if (examples.empty()) return fail(ErrorCode::kInvalidArgument, "[questions] the files hold no questions");
  return std::shared_ptr<const QuestionTask>(new QuestionTask(std::move(examples), vocabulary));
}

Example QuestionTask::example(std::uint64_t seed, std::uint64_t index) const {
  const auto all = static_cast<std::uint64_t>(count());
  const Permutation order(count(), seed, index / all);
  return examples_[static_cast<std::size_t>(order(static_cast<std::int64_t>(index % all)))];
}

Result<std::vector<Example>> read_questions(std::string_view lines, const std::string& origin, bool both_ways,
                                            const formats::Tokenizer& tokenizer, const ObjectiveTokens& tokens) {
  std::vector<Example> examples;
  for (std::int64_t line = 1; !lines.empty(); ++line) {
    const std::string_view one = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), one.size() + 1));
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json json = Json::parse(one, nullptr, false);
    const auto is_text = [&](const char* key) { return json.contains(key) && json[key].is_string(); };
    if (!json.is_object() || !is_text("prompt") || !is_text("answer")) {
      return fail(ErrorCode::kCorrupt, "[questions] {}:{}: no object with the texts \"prompt\" and \"answer\"", origin,
                  line);
    }
    const auto prompt = tokenizer.encode(json["prompt"].get_ref<const std::string&>());
    const auto answer = tokenizer.encode(json["answer"].get_ref<const std::string&>());
    Example example = example_of(prompt, answer, tokens);
    if (!both_ways) example.prefix = 0;
    examples.push_back(std::move(example));
  }
  return examples;
}

Result<QuestionTasks> open_questions(const QuestionConfig& config, const std::string& tokenizer) {
  if (tokenizer.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[questions] [tokenizer] path names the tokenizer.json they are read with");
  }
  KRAIT_ASSIGN(const auto opened, open_tokenizer_json(tokenizer));
  KRAIT_ASSIGN(const ObjectiveTokens tokens, find_objective_tokens(*opened));
  QuestionTasks tasks;
  KRAIT_ASSIGN(tasks.train, open_task(config.train, config.both_ways, *opened, tokens));
  if (!config.test.empty()) {
    KRAIT_ASSIGN(tasks.test, open_task(config.test, config.both_ways, *opened, tokens));
  }
  return tasks;
}

}  // namespace krait::train
