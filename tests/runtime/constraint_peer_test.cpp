// What krait writes under JSON schemas, judged by npm's ajv (draft 2020-12, with ajv-formats) and by JavaScript's own
// parser, which know nothing of krait.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/json_schema.h"
#include "tests/runtime/constraint_walk.h"
#include "tests/runtime/json_schema_samples.h"
#include "tests/support/node_peer.h"

namespace krait::tests {
namespace {

TEST(ConstraintPeer, AjvFindsEveryTextValid) {
  const auto path = std::filesystem::path(KRAIT_SOURCE_DIR) / "models" / "tales" / "tokenizer.json";
  const auto tokenizer = formats::open_tokenizer(path);
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  const auto vocabulary = ConstraintVocabulary::of(**tokenizer);
  const TokenId end = (*tokenizer)->token_to_id("<|endoftext|>").value();

  const auto peer = installed_node_peer(std::filesystem::path("tests") / "runtime" / "json_schema_peer");
  std::vector<std::string> written;
  {
    std::ofstream file(peer / "lines.jsonl");
    for (const std::string& sample : json_schema_samples()) {
      const auto grammar = formats::grammar_of_json_schema(sample, {});
      ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
      const auto constraint = compiled(*grammar, vocabulary, end);
      for (std::uint64_t seed = 1000; seed < 1040; ++seed) {
        const auto text = random_text(constraint, end, seed, static_cast<int>((seed - 1000) * 10));
        ASSERT_TRUE(text.has_value()) << sample;
        file << nlohmann::ordered_json{{"schema", nlohmann::json::parse(sample)}, {"text", *text}}.dump() << '\n';
        written.push_back(fmt::format("{}\nunder {}", *text, sample));
      }
    }
  }
  const std::string command =
      fmt::format("cd '{}' && node validate_lines.mjs lines.jsonl > verdicts.txt", peer.string());
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  std::ifstream file(peer / "verdicts.txt");
  std::string verdict;
  for (const std::string& text : written) {
    ASSERT_TRUE(std::getline(file, verdict)) << text;
    EXPECT_EQ(verdict, "ok") << text;
  }
}

}  // namespace
}  // namespace krait::tests
