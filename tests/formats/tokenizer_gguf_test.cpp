// Tokenizers from the metadata of a GGUF.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "tests/formats/tokenizer_samples.h"

namespace krait::formats {
namespace {

using Strings = std::vector<std::string>;
using Integers = std::vector<std::int64_t>;

// The sample of tokenizer_samples.h as a GGUF would carry it.
Config byte_level_metadata(const std::string& pre) {
  const auto json = nlohmann::json::parse(tests::byte_level_json("", ""));
  std::size_t size = 0;
  for (const auto& [token, id] : json["model"]["vocab"].items()) size = std::max(size, id.get<std::size_t>() + 1);
  for (const auto& added : json["added_tokens"]) size = std::max(size, added["id"].get<std::size_t>() + 1);
  Strings tokens(size);
  Integers types(size, 1);
  for (const auto& [token, id] : json["model"]["vocab"].items()) tokens[id.get<std::size_t>()] = token;
  for (const auto& added : json["added_tokens"]) {
    tokens[added["id"].get<std::size_t>()] = added["content"];
    types[added["id"].get<std::size_t>()] = added["special"].get<bool>() ? 3 : 4;
  }
  Config config("sample.gguf");
  config.set("tokenizer.ggml.model", std::string("gpt2"));
  config.set("tokenizer.ggml.pre", pre);
  config.set("tokenizer.ggml.tokens", tokens);
  config.set("tokenizer.ggml.token_type", types);
  config.set("tokenizer.ggml.merges", json["model"]["merges"].get<Strings>());
  config.set("tokenizer.ggml.bos_token_id", std::int64_t{0});
  config.set("tokenizer.ggml.eos_token_id", std::int64_t{0});
  return config;
}

Config scored_metadata() {
  Strings tokens = {"<unk>", "<s>", "</s>"};
  Integers types = {2, 3, 3};
  std::vector<double> scores = {0, 0, 0};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
    scores.push_back(0);
  }
  // "he" scores above "th", so "the" is t + he.
  for (const char* token : {"he", "th", "▁t", "▁the", "▁", "t", "h", "e"}) {
    tokens.emplace_back(token);
    types.push_back(1);
    scores.push_back(-static_cast<double>(scores.size()));
  }
  Config config("sample.gguf");
  config.set("tokenizer.ggml.model", std::string("llama"));
  config.set("tokenizer.ggml.tokens", tokens);
  config.set("tokenizer.ggml.token_type", types);
  config.set("tokenizer.ggml.scores", scores);
  config.set("tokenizer.ggml.bos_token_id", std::int64_t{1});
  config.set("tokenizer.ggml.eos_token_id", std::int64_t{2});
  return config;
}

std::unique_ptr<Tokenizer> parse(const Config& config) {
  auto tokenizer = tokenizer_from_gguf(config);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

TEST(GgufTokenizer, ByteLevelEqualsTheSameTokenizerFromJson) {
  const auto from_gguf = parse(byte_level_metadata("gpt-2"));
  const auto from_json =
      parse_tokenizer_json(tests::byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": false})"), "sample");
  ASSERT_TRUE(from_json.has_value());
  EXPECT_EQ(from_gguf->size(), (*from_json)->size());
  EXPECT_EQ(from_gguf->bos(), 0);
  EXPECT_FALSE(from_gguf->adds_bos());
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const std::string text = tests::mixed_text(seed, 300, seed % 2 == 0);
    const auto ids = from_gguf->encode(text);
    EXPECT_EQ(ids, (*from_json)->encode(text));
    EXPECT_EQ(from_gguf->decode(ids, false), text);
  }
}

TEST(GgufTokenizer, EverySplitSchemeRoundTrips) {
  for (const char* pre : {"gpt-2", "llama-bpe", "qwen2", "starcoder", "falcon", "default", "dbrx", "olmo"}) {
    const auto tokenizer = parse(byte_level_metadata(pre));
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const std::string text = tests::mixed_text(seed, 300, true);
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text) << pre;
    }
  }
  EXPECT_TRUE(parse(byte_level_metadata("llama-bpe"))->adds_bos());
}

TEST(GgufTokenizer, ScoresDecideMerges) {
  const auto tokenizer = parse(scored_metadata());
  std::string joined;
  for (const TokenId id : tokenizer->encode("the é")) joined += fmt::format("{}|", tokenizer->id_to_token(id));
  // First h + e, the best score; then ▁ + t; then ▁t + he.
  EXPECT_EQ(joined, "▁the|▁|<0xC3>|<0xA9>|");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("the é"), true), "the é");
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->eos(), 2);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const std::string text = tests::mixed_text(seed, 20'000, true);
    const auto whole = tokenizer->encode(text);
    std::vector<TokenId> ids;
    const auto encoder = tokenizer->encoder();
    for (std::size_t at = 0; at < text.size(); at += 777) encoder->feed(std::string_view(text).substr(at, 777), ids);
    encoder->finish(ids);
    EXPECT_EQ(ids, whole);
  }
}

TEST(GgufTokenizer, RefusesByName) {
  Config none("x.gguf");
  none.set("tokenizer.ggml.model", std::string("none"));
  EXPECT_EQ(tokenizer_from_gguf(none).error().code, ErrorCode::kNotFound);
  Config other("x.gguf");
  other.set("tokenizer.ggml.model", std::string("bert"));
  EXPECT_EQ(tokenizer_from_gguf(other).error().code, ErrorCode::kUnsupported);
  const auto pre = tokenizer_from_gguf(byte_level_metadata("nobody-knows"));
  ASSERT_FALSE(pre.has_value());
  EXPECT_EQ(pre.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(pre.error().message.find("nobody-knows"), std::string::npos);
  Config far = byte_level_metadata("gpt-2");
  far.set("tokenizer.ggml.eos_token_id", std::int64_t{1} << 40);
  EXPECT_EQ(tokenizer_from_gguf(far).error().code, ErrorCode::kCorrupt);
  Config merges = byte_level_metadata("gpt-2");
  merges.set("tokenizer.ggml.merges", Strings{"q zz"});
  EXPECT_EQ(tokenizer_from_gguf(merges).error().code, ErrorCode::kCorrupt);
  Config scores = scored_metadata();
  scores.set("tokenizer.ggml.scores", std::vector<double>{1.0});
  EXPECT_EQ(tokenizer_from_gguf(scores).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace krait::formats
