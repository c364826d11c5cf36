#include "krait/train/question_task.h"

#include <gtest/gtest.h>

#include <set>

#include "krait/train/tokenizer_training.h"

namespace krait::train {
namespace {

class Questions : public ::testing::Test {
 protected:
  Questions() {
    TokenizerTrainingOptions options;
    options.special_tokens = objective_special_tokens(2);
    options.vocabulary = 256 + static_cast<std::int64_t>(options.special_tokens.size());
    const auto trained = TokenizerTrainer::make(options)->train();
    tokenizer_ = *formats::parse_tokenizer_json(tokenizer_files(*trained)->tokenizer, "t");
    tokens_ = *find_objective_tokens(*tokenizer_);
  }
  Result<std::vector<Example>> read(std::string_view lines, bool both_ways = true) const {
    return read_questions(lines, "q.jsonl", both_ways, *tokenizer_, tokens_);
  }
  std::unique_ptr<formats::Tokenizer> tokenizer_;
  ObjectiveTokens tokens_;
};

TEST_F(Questions, AreExamplesInTheFormOfObjectives) {
  const auto examples = read("{\"prompt\": \"AB?\", \"answer\": \"7\"}\n\n{\"prompt\": \"C?\", \"answer\": \"89\"}");
  ASSERT_TRUE(examples) << examples.error().message;
  ASSERT_EQ(examples->size(), 2U);
  const auto prompt = tokenizer_->encode("AB?"), answer = tokenizer_->encode("7");
  const Example expected = example_of(prompt, answer, tokens_);
  EXPECT_EQ((*examples)[0].ids, expected.ids);
  EXPECT_EQ((*examples)[0].labels, expected.labels);
  EXPECT_EQ((*examples)[0].prefix, 4);
  EXPECT_EQ((*read("{\"prompt\": \"AB?\", \"answer\": \"7\"}", false))[0].prefix, 0);
}

TEST_F(Questions, ComeAllBeforeOneComesAgain) {
  std::string lines;
  for (int i = 0; i < 13; ++i) lines += fmt::format("{{\"prompt\": \"{}?\", \"answer\": \"{}\"}}\n", i, i);
  const auto task = QuestionTask::make(*read(lines), tokenizer_->size());
  ASSERT_TRUE(task);
  EXPECT_EQ((*task)->count(), 13);
  EXPECT_EQ((*task)->vocabulary(), tokenizer_->size());
  std::vector<std::vector<std::int32_t>> first, second;
  for (std::uint64_t i = 0; i < 13; ++i) {
    first.push_back((*task)->example(5, i).ids);
    second.push_back((*task)->example(5, i + 13).ids);
    EXPECT_LE((*task)->example(5, i).length(), (*task)->longest());
  }
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 13U);
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set(first.begin(), first.end()), std::set(second.begin(), second.end()));
}

TEST_F(Questions, ThatAreNoneAreNamed) {
  for (const char* wrong : {"{\"prompt\": \"A\"}", "[1]", "{\"prompt\": 1, \"answer\": \"A\"}", "{", "7"}) {
    const auto read_wrong = read(std::string("{\"prompt\": \"A\", \"answer\": \"B\"}\n") + wrong);
    ASSERT_FALSE(read_wrong) << wrong;
    EXPECT_NE(read_wrong.error().message.find("q.jsonl:2"), std::string::npos);
  }
  EXPECT_FALSE(QuestionTask::make({}, 300));
}

}  // namespace
}  // namespace krait::train
