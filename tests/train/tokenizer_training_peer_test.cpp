// A tokenizer that krait trained, read by npm's @huggingface/tokenizers: the same ids for every line.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer.h"
#include "krait/train/tokenizer_training.h"
#include "tests/formats/installed_peer.h"
#include "tests/formats/tokenizer_samples.h"

namespace krait::train {
namespace {

void compare(const std::string& split) {
  TokenizerTrainingOptions options;
  options.vocabulary = 1200;
  options.split = split;
  options.special_tokens = {"<|endoftext|>", "<|pad|>"};
  auto trainer = TokenizerTrainer::make(options);
  ASSERT_TRUE(trainer) << trainer.error().message;
  for (std::uint64_t seed = 0; seed < 300; ++seed) trainer->read(tests::mixed_text(seed, 400, false));
  const auto trained = trainer->train();
  ASSERT_TRUE(trained);
  ASSERT_GT(trained->merges.size(), 500U);
  const auto files = tokenizer_files(*trained);
  ASSERT_TRUE(files) << files.error().message;
  const auto tokenizer = formats::parse_tokenizer_json(files->tokenizer, "trained");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;

  std::vector<std::string> lines = {"<|endoftext|>a<|pad|> b", "   ", "THEY'RE we'll 12,345"};
  for (std::uint64_t seed = 1000; seed < 1600; ++seed) lines.push_back(tests::mixed_text(seed, 10 + seed % 300, false));
  const std::filesystem::path peer = tests::installed_peer();
  const std::string name = "trained_" + split;
  std::ofstream(peer / (name + ".json")) << files->tokenizer;
  {
    std::ofstream out(peer / (name + ".lines.jsonl"));
    for (const std::string& line : lines) out << nlohmann::json(line).dump() << '\n';
  }
  const std::string command = fmt::format("cd '{}' && node encode_lines.mjs {}.json {}.lines.jsonl {}.ids.jsonl",
                                          peer.string(), name, name, name);
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  std::ifstream ids(peer / (name + ".ids.jsonl"));
  for (const std::string& line : lines) {
    std::string answer;
    ASSERT_TRUE(std::getline(ids, answer));
    EXPECT_EQ((*tokenizer)->encode(line), nlohmann::json::parse(answer)["ids"].get<std::vector<formats::TokenId>>())
        << nlohmann::json(line).dump(-1, ' ', true);
  }
}

TEST(TokenizerTrainingPeer, Gpt2SplitAgreesOnEveryLine) { compare("gpt-2"); }
TEST(TokenizerTrainingPeer, Qwen2SplitAgreesOnEveryLine) { compare("qwen2"); }

}  // namespace
}  // namespace krait::train
