// What tokenizer.json files may not say, and what the files beside one add.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer.h"
#include "tests/formats/tokenizer_samples.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;

Json sample() { return Json::parse(tests::byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": false})")); }

Error refusal(const Json& json) {
  const auto tokenizer = parse_tokenizer_json(json.dump(), "sample.json");
  EXPECT_FALSE(tokenizer.has_value());
  return tokenizer ? Error{} : tokenizer.error();
}

TEST(TokenizerJson, UnknownTypesAreRefusedByName) {
  for (const char* part : {"normalizer", "pre_tokenizer", "model", "decoder"}) {
    Json json = sample();
    json[part]["type"] = "Nonsense";
    const Error error = refusal(json);
    EXPECT_EQ(error.code, ErrorCode::kUnsupported) << part;
    EXPECT_NE(error.message.find("'Nonsense'"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("sample.json"), std::string::npos) << error.message;
  }
}

TEST(TokenizerJson, VocabularyIsBoundsChecked) {
  for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{1} << 40, std::int64_t{1} << 23}) {
    Json json = sample();
    json["model"]["vocab"]["far"] = id;
    EXPECT_EQ(refusal(json).code, ErrorCode::kCorrupt) << id;
    json = sample();
    json["added_tokens"][0]["id"] = id;
    EXPECT_EQ(refusal(json).code, ErrorCode::kCorrupt) << id;
  }
  Json holes = sample();
  holes["model"]["vocab"]["!!"] = 5000;
  const auto tokenizer = parse_tokenizer_json(holes.dump(), "holes");
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ((*tokenizer)->size(), 5001);
  EXPECT_EQ((*tokenizer)->id_to_token(4000), "");
  EXPECT_EQ((*tokenizer)->decode(std::vector<TokenId>{4000, -7, 1 << 30}, false), "");
}

TEST(TokenizerJson, MergesOfUnknownTokensAreRefused) {
  Json json = sample();
  json["model"]["merges"].push_back("q zz");
  const Error error = refusal(json);
  EXPECT_EQ(error.code, ErrorCode::kCorrupt);
  EXPECT_NE(error.message.find("'zz'"), std::string::npos) << error.message;
  json["model"]["merges"].back() = 7;
  EXPECT_EQ(refusal(json).code, ErrorCode::kCorrupt);
}

TEST(TokenizerJson, BrokenFilesAreRefused) {
  const std::string whole = sample().dump();
  for (std::size_t size = 0; size < whole.size(); size += 97) {
    EXPECT_FALSE(parse_tokenizer_json(std::string_view(whole).substr(0, size), "cut").has_value());
  }
  Json deep = sample();
  Json inner = {{"type", "NFC"}};
  for (int i = 0; i < 20; ++i) inner = {{"type", "Sequence"}, {"normalizers", Json::array({inner})}};
  deep["normalizer"] = inner;
  EXPECT_EQ(refusal(deep).code, ErrorCode::kCorrupt);
  Json empty_match = sample();
  empty_match["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "x*"}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(refusal(empty_match).code, ErrorCode::kUnsupported);
}

TEST(TokenizerJson, AddedTokenFlagsTakeWhiteSpaceAndRespectWords) {
  Json json = sample();
  const auto add = [&](int id, const char* content, const char* flag) {
    Json token = {{"id", id}, {"content", content}, {"special", false}, {"normalized", false}};
    token[flag] = true;
    json["added_tokens"].push_back(token);
  };
  add(600, "[L]", "lstrip");
  add(601, "[R]", "rstrip");
  add(602, "word", "single_word");
  const auto tokenizer = parse_tokenizer_json(json.dump(), "flags");
  ASSERT_TRUE(tokenizer.has_value());
  const auto spelled = [&](std::string_view text) {
    std::string joined;
    for (const TokenId id : (*tokenizer)->encode(text)) joined += fmt::format("{}|", (*tokenizer)->id_to_token(id));
    return joined;
  };
  EXPECT_EQ(spelled("x \t[L] y"), "x|[L]|Ġ|y|");
  EXPECT_EQ(spelled("x [R] \n y"), "x|Ġ|[R]|y|");
  EXPECT_EQ(spelled("word"), "word|");
  EXPECT_EQ(spelled("a word."), "a|Ġ|word|.|");
  EXPECT_EQ(spelled("words"), "w|o|r|d|s|");
  EXPECT_EQ(spelled("éword"), fmt::format("{}w|o|r|d|", spelled("é")));
  // The same through a stream, a byte at a time.
  for (const char* text : {"x \t[L] y", "x [R] \n y", "a word.", "words", "éword", "word [L] [R] word"}) {
    std::vector<TokenId> ids;
    const auto encoder = (*tokenizer)->encoder();
    const std::string whole = fmt::format("{:->70000}{}", "", text);  // past the first block of a stream
    for (const char c : whole) encoder->feed(std::string_view(&c, 1), ids);
    encoder->finish(ids);
    EXPECT_EQ(ids, (*tokenizer)->encode(whole)) << text;
  }
}

TEST(OpenTokenizer, ReadsBoundariesFromTheFilesBeside) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "krait_open_tokenizer";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  EXPECT_EQ(open_tokenizer(folder).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(open_tokenizer(folder / "absent.json").error().code, ErrorCode::kNotFound);
  std::ofstream(folder / "tokenizer.json") << sample().dump();
  EXPECT_FALSE((*open_tokenizer(folder))->eos().has_value());
  std::ofstream(folder / "config.json") << R"({"eos_token_id": 7, "bos_token_id": 99999})";
  EXPECT_EQ((*open_tokenizer(folder))->eos(), 7);
  EXPECT_FALSE((*open_tokenizer(folder))->bos().has_value());
  std::ofstream(folder / "generation_config.json") << R"({"eos_token_id": [8, 9]})";
  EXPECT_EQ((*open_tokenizer(folder))->eos(), 8);
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"eos_token": {"content": "<|end|>"}, "bos_token": "<|end|>", "add_bos_token": true})";
  const auto tokenizer = open_tokenizer(folder / "tokenizer.json");
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ((*tokenizer)->eos(), 0);
  EXPECT_EQ((*tokenizer)->bos(), 0);
  EXPECT_TRUE((*tokenizer)->adds_bos());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace krait::formats
