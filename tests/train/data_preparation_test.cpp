#include "krait/train/data_preparation.h"

#include <gtest/gtest.h>

#include "krait/formats/content_identity.h"
#include "krait/train/data_corpus.h"
#include "krait/train/tokenizer_training.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

class PreparationTest : public ::testing::Test {
 protected:
  PreparationTest() {
    const auto files = tokenizer_files(*TokenizerTrainer::make({.vocabulary = 257})->train());
    texts_.write("tokenizer.json", files->tokenizer);
    texts_.write("tokenizer_config.json", files->config);
    tokenizer_ = *formats::open_tokenizer(texts_.path());
    options_.tokenizer_path = "tokenizer.json";
  }

  PreparationOptions of(std::string_view text) {
    PreparationOptions options = options_;
    options.text = {.paths = {texts_.write("text.txt", text)}, .blank_lines = 1};
    return options;
  }

  tests::TemporaryFolder texts_, out_;
  std::unique_ptr<formats::Tokenizer> tokenizer_;
  PreparationOptions options_;
  ThreadPool pool_{1};
};

TEST_F(PreparationTest, TextsComeBackFromShards) {
  PreparationOptions options = of("One fine day.\n\nA second document.\n\nx\x01\x02\n\nA second document.\n\nLast.\n");
  options.shard_tokens = 20;
  const auto report = prepare_shards(options, *tokenizer_, out_.path() / "shards", pool_);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->documents, 5);
  EXPECT_EQ(report->kept, 3);
  EXPECT_EQ(report->duplicates, 1);
  ASSERT_EQ(report->shards.size(), 2U) << "the first is full after two documents";

  const std::filesystem::path folder[] = {out_.path() / "shards"};
  const auto corpus = TokenCorpus::open(folder);
  ASSERT_TRUE(corpus) << corpus.error().message;
  EXPECT_EQ(corpus->tokens(), report->tokens);
  std::vector<std::string> texts;
  for (std::int64_t i = 0; i < corpus->documents(); ++i) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(corpus->length(i)));
    ASSERT_TRUE(corpus->read(i, 0, ids));
    EXPECT_EQ(ids.back(), tokenizer_->eos());
    ids.pop_back();
    texts.push_back(tokenizer_->decode(ids, false));
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"One fine day.\n", "A second document.\n", "Last.\n"}));

  const auto notes = Provenance::parse(corpus->shards()[1].provenance(), "shard");
  ASSERT_TRUE(notes) << notes.error().message;
  EXPECT_EQ(notes->shard, 1);
  EXPECT_EQ(notes->documents, 3);
  EXPECT_EQ(notes->tokenizer, "tokenizer.json");
  EXPECT_EQ(notes->tokenizer_identity, formats::tokenizer_identity(*tokenizer_));
  EXPECT_EQ(corpus->tokenizer(), notes->tokenizer_identity);
  ASSERT_EQ(notes->sources.size(), 1U);
  EXPECT_EQ(notes->sources[0].documents, 5);
  EXPECT_EQ(notes->sources[0].bytes, std::filesystem::file_size(texts_.path() / "text.txt"));
  std::int64_t dropped = 0;
  for (const QualityRule& rule : notes->rules) dropped += rule.dropped;
  EXPECT_EQ(dropped, 2);
  EXPECT_EQ(notes->rules.back().name, "near_duplicate");
}

TEST_F(PreparationTest, LeavesNothingBehindWhenStopped) {
  PreparationOptions options = of("First one.\n\nSecond one.\n\nThird one.\n");
  options.shard_tokens = 1;
  const auto report =
      prepare_shards(options, *tokenizer_, out_.path(), pool_, [](auto done, auto) { return done < 15; });
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(out_.path()));
}

TEST_F(PreparationTest, RefusesWhatCannotBe) {
  const auto refusal = [&](const PreparationOptions& options) {
    const auto report = prepare_shards(options, *tokenizer_, out_.path(), pool_);
    return report ? std::string() : report.error().message;
  };
  EXPECT_NE(refusal(of("\x01")).find("no document is left of 1"), std::string::npos);
  PreparationOptions options = of("Text.");
  options.likeness = 1.5;
  EXPECT_NE(refusal(options).find("1.5"), std::string::npos);
  PreparationOptions without = of("Text.");
  without.end_token = "<|nothing|>";
  EXPECT_NE(refusal(without).find("<|nothing|>"), std::string::npos);
  EXPECT_EQ(refusal(of("Text.")), "");
  EXPECT_NE(refusal(of("Text.")).find("00000.ktok"), std::string::npos) << "shards that are there are not mixed with";
  for (const char* json : {"", "{}", "{\"sources\": 3}", "[]"}) EXPECT_FALSE(Provenance::parse(json, "t")) << json;
}

}  // namespace
}  // namespace krait::train
