// Vocabularies from tokenizer.json to GGUF's keys and back: the same ids before and after.
#include "krait/formats/tokenizer_conversion.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "krait/formats/gguf.h"
#include "krait/formats/gguf_writer.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/tokenizer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/formats/tokenizer_samples.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

using tests::expect_error;
using tests::TemporaryFolder;

constexpr std::int64_t kRows = 512;  // more than any of the samples has

template <class T>
T value(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string split_json(const std::string& pattern) {
  return nlohmann::json{
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}
      .dump();
}

// The keys of a vocabulary, through a file.
Config through_gguf(const std::string& json, const TemporaryFolder& folder, std::int64_t rows = kRows) {
  write_text(folder.path() / "tokenizer.json", json);
  const GgufVocabulary vocabulary = value(vocabulary_to_gguf(folder.path(), rows));
  value(write_gguf(folder.path() / "v.gguf", std::span<const NamedTensor>(), vocabulary.keys));
  const MappedFile file = value(MappedFile::open(folder.path() / "v.gguf"));
  return value(parse_gguf_metadata(file.bytes(), "v.gguf"));
}

// That a text has the same ids in the original, as GGUF, and in what comes back of it.
void expect_same_ids(const std::string& json, const std::string& pre, std::span<const std::string> texts,
                     std::int64_t rows = kRows) {
  const TemporaryFolder folder;
  const Config metadata = through_gguf(json, folder, rows);
  EXPECT_EQ(metadata.text("tokenizer.ggml.pre").value_or(""), pre);
  EXPECT_EQ(static_cast<std::int64_t>(value(metadata.texts("tokenizer.ggml.tokens")).size()), rows);
  const auto original = value(parse_tokenizer_json(json, "original"));
  const auto gguf = value(tokenizer_from_gguf(metadata));
  const VocabularyFiles files = value(vocabulary_from_gguf(metadata));
  EXPECT_TRUE(files.losses.empty());
  const auto back = value(parse_tokenizer_json(files.tokenizer, "back"));
  for (const std::string& text : texts) {
    const auto ids = original->encode(text);
    EXPECT_EQ(gguf->encode(text), ids) << text;
    EXPECT_EQ(back->encode(text), ids) << text;
    EXPECT_EQ(gguf->decode(ids, false), original->decode(ids, false));
    EXPECT_EQ(back->decode(ids, false), original->decode(ids, false));
    EXPECT_EQ(back->decode(ids, true), original->decode(ids, true));
  }
}

std::vector<std::string> mixed_texts() {
  std::vector<std::string> texts;
  for (std::uint64_t seed = 0; seed < 40; ++seed) texts.push_back(tests::mixed_text(seed, 300, seed % 2 == 0));
  return texts;
}

TEST(TokenizerConversion, ByteLevelHasTheSameIdsBothWays) {
  const auto texts = mixed_texts();
  expect_same_ids(tests::byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": false})"), "gpt-2", texts);
  expect_same_ids(tests::byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": true})"), "gpt-2", texts);
  expect_same_ids(tests::byte_level_json(
                      "", R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
                                     {"type": "ByteLevel", "add_prefix_space": false}]})"),
                  "starcoder", texts);
  const std::string words =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  expect_same_ids(tests::byte_level_json("", split_json(words)), "qwen2", texts);
}

TEST(TokenizerConversion, ByteFallbackHasTheSameIdsBothWays) {
  expect_same_ids(tests::byte_fallback_json(), "default", mixed_texts());
}

TEST(TokenizerConversion, AnOutsideVocabularyHasTheSameIdsBothWays) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  const MappedFile file = value(MappedFile::open(shared / "golden/tokenizers/gpt-neox/tokenizer.json"));
  const std::string json(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  // In NFC already: GGUF has no word for the normalizer.
  const std::vector<std::string> texts = {
      "Mamba's state-space model: h(t) = A h(t-1) + B x(t), 12345 tokens.",
      "def f(x):\n    return x  # a comment\n\n\n\tif x:\n        pass\n",
      "Grüße aus Köln — 日本語のテキスト <|endoftext|> 👩‍👩‍👧 end."};
  expect_same_ids(json, "gpt-2", texts, 50288);
  const GgufVocabulary vocabulary = value(vocabulary_to_gguf(shared / "golden/tokenizers/gpt-neox", 50288));
  ASSERT_EQ(vocabulary.losses.size(), 1U);
  EXPECT_NE(vocabulary.losses.front().find("NFC"), std::string::npos);
}

TEST(TokenizerConversion, EndsOfATextComeAlong) {
  const TemporaryFolder folder;
  write_text(folder.path() / "tokenizer_config.json",
             R"({"bos_token": "<|end|>", "eos_token": {"content": "<|end|>"}, "add_bos_token": true,
                 "chat_template": "{{ messages }}"})");
  const Config metadata =
      through_gguf(tests::byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": false})"), folder);
  EXPECT_EQ(metadata.integer("tokenizer.ggml.bos_token_id").value_or(-1), 0);
  EXPECT_EQ(metadata.integer("tokenizer.ggml.eos_token_id").value_or(-1), 0);
  EXPECT_TRUE(metadata.boolean("tokenizer.ggml.add_bos_token").value_or(false));
  const VocabularyFiles files = value(vocabulary_from_gguf(metadata));
  const TemporaryFolder another;
  write_text(another.path() / "tokenizer.json", files.tokenizer);
  write_text(another.path() / "tokenizer_config.json", files.config);
  const auto back = value(open_tokenizer(another.path()));
  EXPECT_EQ(back->bos(), 0);
  EXPECT_EQ(back->eos(), 0);
  EXPECT_TRUE(back->adds_bos());
  EXPECT_EQ(nlohmann::json::parse(files.config)["chat_template"], "{{ messages }}");
}

TEST(TokenizerConversion, RefusesWhatTheKeysCannotSay) {
  const TemporaryFolder folder;
  expect_error(vocabulary_to_gguf(folder.path(), kRows), ErrorCode::kNotFound, {"tokenizer.json"});
  const auto refused = [&](const std::string& json, std::int64_t rows, std::initializer_list<std::string_view> parts) {
    write_text(folder.path() / "tokenizer.json", json);
    expect_error(vocabulary_to_gguf(folder.path(), rows), ErrorCode::kUnsupported, parts);
  };
  const std::string plain = R"({"type": "ByteLevel", "add_prefix_space": false})";
  refused(tests::unigram_json(), kRows, {"Unigram"});
  refused(tests::byte_level_json("", plain), 10, {"embedding of 10"});
  refused(tests::byte_level_json("", split_json(R"(\w+)")), kRows, {R"(\w+)"});
  // A merge that comes after those that need its token: no scores say so.
  auto json = nlohmann::json::parse(tests::byte_fallback_json());
  json["model"]["merges"].erase(0);
  refused(json.dump(), kRows, {"merges"});
  Config world("w.gguf");
  world.set("tokenizer.ggml.model", std::string("none"));
  expect_error(vocabulary_from_gguf(world), ErrorCode::kNotFound, {"w.gguf"});
}

}  // namespace
}  // namespace krait::formats
