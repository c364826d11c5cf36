// Tokenizers as callers see them: encoding, round trips, streams, decoding token by token.
#include "krait/formats/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "tests/formats/tokenizer_samples.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

using tests::mixed_text;
using Ids = std::vector<TokenId>;

constexpr const char* kByteLevel = R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";
constexpr const char* kLlama3 =
    R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex":
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
    "behavior": "Isolated", "invert": false}, {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";

std::unique_ptr<Tokenizer> parse(const std::string& json) {
  auto tokenizer = parse_tokenizer_json(json, "sample");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::unique_ptr<Tokenizer> open(const std::filesystem::path& path) {
  auto tokenizer = open_tokenizer(path);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

// The ids of `text` fed in pieces of random sizes, many of them small.
Ids encode_in_pieces(const Tokenizer& tokenizer, const std::string& text, std::uint64_t seed, std::size_t largest) {
  std::mt19937_64 random(seed);
  Ids ids;
  const auto encoder = tokenizer.encoder();
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = 1 + random() % largest;
    encoder->feed(std::string_view(text).substr(at, size), ids);
    at += size;
  }
  encoder->finish(ids);
  return ids;
}

struct Kind {
  std::string name;
  std::string json;
  bool exact;  // no normaliser, so any bytes come back
};

std::vector<Kind> kinds() {
  using tests::byte_level_json;
  const std::string digits = std::string(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits",
      "individual_digits": true}, )") +
                             kByteLevel + "]}";
  const std::string falcon = std::string(R"({"type": "Sequence", "pretokenizers": [{"type": "Punctuation",
      "behavior": "Contiguous"}, )") +
                             kByteLevel + R"(, {"type": "Digits", "individual_digits": false},
      {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": false}]})";
  const auto split = [](const std::string& behavior, bool invert) {
    return fmt::format(R"({{"type": "Sequence", "pretokenizers": [{{"type": "Split", "pattern": {{"String": "a"}},
        "behavior": "{}", "invert": {}}}, {}]}})",
                       behavior, invert, kByteLevel);
  };
  return {
      {"Gpt2", byte_level_json("", kByteLevel), true},
      {"NeoX", byte_level_json(R"({"type": "NFC"})", kByteLevel), false},
      {"Llama3", byte_level_json("", kLlama3), true},
      {"Digits", byte_level_json("", digits), true},
      {"Falcon", byte_level_json("", falcon), true},
      {"PrefixSpace", byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": true})"), false},
      {"NoRegex", byte_level_json("", R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})"), true},
      {"MergedWithNext", byte_level_json("", split("MergedWithNext", false)), true},
      {"MergedWithPrevious", byte_level_json("", split("MergedWithPrevious", false)), true},
      {"Contiguous", byte_level_json("", split("Contiguous", true)), true},
      {"Removed", byte_level_json("", split("Removed", false)), false},
      {"Normalizers",
       byte_level_json(R"({"type": "Sequence", "normalizers": [{"type": "NFKD"},
              {"type": "Lowercase"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "_"},
              {"type": "Replace", "pattern": {"String": "ing"}, "content": "on"},
              {"type": "Strip", "strip_left": true, "strip_right": true}]})",
                       kByteLevel),
       false},
      {"ByteFallback", tests::byte_fallback_json(), false},
      {"Unigram", tests::unigram_json(), false}};
}

TEST(Tokenizer, MergesLowestRankFirst) {
  const auto tokenizer = parse(tests::byte_level_json("", kByteLevel));
  const auto spelled = [&](const std::string& text) {
    std::string joined;
    for (const TokenId id : tokenizer->encode(text)) joined += tokenizer->id_to_token(id) + "|";
    return joined;
  };
  EXPECT_EQ(spelled("the thing"), "the|Ġ|th|ing|");
  EXPECT_EQ(spelled(" the"), "Ġthe|");
  EXPECT_EQ(spelled("aaaaa"), "aaaa|a|");
  EXPECT_EQ(spelled("x\n\n\ny"), "x|ĊĊ|Ċ|y|");
  EXPECT_EQ(spelled("12345"), "123|4|5|");
}

TEST(Tokenizer, FindsAddedTokensLongestFirst) {
  const auto tokenizer = parse(tests::byte_level_json("", kByteLevel));
  const Ids ids = tokenizer->encode("x           <|end|>y");
  ASSERT_EQ(ids.size(), 5u);
  EXPECT_EQ(tokenizer->id_to_token(ids[1]), std::string(8, ' '));
  EXPECT_EQ(tokenizer->id_to_token(ids[2]), std::string(3, ' '));
  EXPECT_EQ(ids[3], 0);
  EXPECT_TRUE(tokenizer->is_special(0));
  EXPECT_FALSE(tokenizer->is_special(1));
  EXPECT_EQ(tokenizer->decode(ids, true), "x           y");
  EXPECT_EQ(tokenizer->decode(ids, false), "x           <|end|>y");
}

TEST(Tokenizer, ByteFallbackSpellsUnknownCharacters) {
  const auto tokenizer = parse(tests::byte_fallback_json());
  std::string joined;
  for (const TokenId id : tokenizer->encode("the 字")) joined += tokenizer->id_to_token(id) + "|";
  EXPECT_EQ(joined, "▁the|▁|<0xE5>|<0xAD>|<0x97>|");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("the 字"), true), "the 字");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_TRUE(tokenizer->adds_bos());
}

TEST(Tokenizer, UnigramTakesTheBestPath) {
  const auto tokenizer = parse(tests::unigram_json());
  const auto spelled = [&](const std::string& text) {
    std::string joined;
    for (const TokenId id : tokenizer->encode(text)) joined += tokenizer->id_to_token(id) + "|";
    return joined;
  };
  // ▁the (-3) beats ▁t + he (-8.5); in + g (-9.5) loses to ing (-4.25); aa (-6.5) beats a + a (-10).
  EXPECT_EQ(spelled("the"), "▁the|");
  EXPECT_EQ(spelled("thing"), "▁t|h|ing|");
  EXPECT_EQ(spelled("  aaa"), "▁|▁a|aa|");
  EXPECT_EQ(spelled("qqq the"), "▁|<unk>|▁the|");  // unknown characters in a row are one token
}

TEST(Tokenizer, RoundTripsEveryByteWithoutNormalizer) {
  for (const Kind& kind : kinds()) {
    if (!kind.exact) continue;
    const auto tokenizer = parse(kind.json);
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const std::string text = mixed_text(seed, 400, true);
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text) << kind.name << " seed " << seed;
    }
  }
}

TEST(TokenEncoder, CutsAnywhereGiveTheSameIds) {
  for (const Kind& kind : kinds()) {
    const auto tokenizer = parse(kind.json);
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const std::string text = mixed_text(seed, 50'000, seed % 2 == 1);
      const Ids whole = tokenizer->encode(text);
      EXPECT_EQ(encode_in_pieces(*tokenizer, text, seed, seed < 3 ? 40 : 20'000), whole)
          << kind.name << " seed " << seed;
    }
  }
}

TEST(TokenEncoder, LongRunsStayExactAndLinear) {
  constexpr std::size_t kSize = 40'000;  // several blocks of a stream
  for (const Kind& kind : kinds()) {
    const auto tokenizer = parse(kind.json);
    for (const std::string& unit : {std::string("a"), std::string(" "), std::string("\n"), std::string("7"),
                                    std::string("\xCC\x81"), std::string("\xFF")}) {
      std::string text = "x";
      while (text.size() < kSize) text += unit;
      text += "y";
      EXPECT_EQ(encode_in_pieces(*tokenizer, text, 1, 5000), tokenizer->encode(text))
          << kind.name << " '" << unit << "'";
    }
  }
}

TEST(TokenDecoder, EmitsOnlyWholeCharacters) {
  for (const Kind& kind : kinds()) {
    const auto tokenizer = parse(kind.json);
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const Ids ids = tokenizer->encode(mixed_text(seed, 500, false));
      TokenDecoder decoder(*tokenizer, false);
      std::string text;
      for (const TokenId id : ids) {
        const std::string part = decoder.feed(id);
        EXPECT_FALSE(!part.empty() && (static_cast<unsigned char>(part[0]) & 0xC0) == 0x80);
        text += part;
      }
      text += decoder.finish();
      EXPECT_EQ(text, tokenizer->decode(ids, false)) << kind.name << " seed " << seed;
    }
  }
}

TEST(TokenDecoder, ReplacesWhatNeverBecomesACharacter) {
  const auto tokenizer = parse(tests::byte_level_json("", kByteLevel));
  TokenDecoder decoder(*tokenizer);
  std::string text;
  for (const TokenId id : tokenizer->encode("a\xE6\xBC!\xFF\xC3\xA9\xF0\x9F")) text += decoder.feed(id);
  EXPECT_EQ(text, "a\uFFFD!\uFFFDé");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
}

TEST(TalesTokenizer, AgreesWithTheModelsOwnNumbers) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const auto folder = path / "models" / "tales-starter";
  const auto tokenizer = open(folder);
  const auto expected = nlohmann::json::parse(read_text(folder / "expected.json"));
  for (const auto& sample : expected["greedy"]) {
    EXPECT_EQ(tokenizer->encode(sample["prompt"].get<std::string>()), sample["prompt_ids"].get<Ids>());
    EXPECT_EQ(tokenizer->decode(sample["greedy_ids"].get<Ids>(), true), sample["text"].get<std::string>());
  }
  const std::string valid = read_text(path / "data" / "tales" / "valid.txt");
  const Ids ids = tokenizer->encode(valid);
  EXPECT_EQ(ids.size(), expected["tokens"].get<std::size_t>());
  EXPECT_EQ(tokenizer->decode(ids, false), valid);
  EXPECT_EQ(encode_in_pieces(*tokenizer, valid, 3, 10'000), ids);
}

TEST(NeoXTokenizer, KnownFacts) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  const auto tokenizer = open(path / "golden" / "tokenizers" / "gpt-neox" / "tokenizer.json");
  EXPECT_EQ(tokenizer->kind(), "bpe");
  EXPECT_EQ(tokenizer->size(), 50277);
  EXPECT_EQ(tokenizer->token_to_id("<|endoftext|>"), 0);
  EXPECT_TRUE(tokenizer->is_special(0));
  // The prompt of the Mamba authors' example, as their tokenizer encodes it.
  EXPECT_EQ(tokenizer->encode("Hello world"), (Ids{12092, 1533}));
  EXPECT_EQ(tokenizer->token_to_id(std::string(24, ' ')), 50254);
  EXPECT_EQ(tokenizer->encode(std::string(24, ' ')), (Ids{50254}));
  EXPECT_EQ(tokenizer->encode("e\u0301"), tokenizer->encode("é"));  // NFC
}

}  // namespace
}  // namespace krait::formats
