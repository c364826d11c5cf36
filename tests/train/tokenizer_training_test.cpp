#include "krait/train/tokenizer_training.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "krait/formats/mapped_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_byte_alphabet.h"
#include "krait/train/random_stream.h"
#include "tests/support/shared_data.h"

namespace krait::train {
namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

TrainedTokenizer trained_on(const std::vector<std::string>& texts, TokenizerTrainingOptions options) {
  auto trainer = TokenizerTrainer::make(std::move(options));
  EXPECT_TRUE(trainer) << trainer.error().message;
  for (const std::string& text : texts) trainer->read(text);
  auto trained = trainer->train();
  EXPECT_TRUE(trained) << trained.error().message;
  return *std::move(trained);
}

// The definition, counted anew for every merge: words as lists of ids, all pairs of all words, the most frequent one,
// of equals the last as they are spelled. Words are those of `counter`.
TrainedTokenizer naive(const WordCounter& counter, const TokenizerTrainingOptions& options) {
  TrainedTokenizer out{options, options.special_tokens, {}};
  std::vector<std::pair<std::vector<std::int32_t>, std::int64_t>> words;
  const auto first = static_cast<std::int32_t>(out.tokens.size());
  for (int byte = 0; byte < 256; ++byte) out.tokens.emplace_back(1, static_cast<char>(byte));
  for (const auto& [text, count] : counter.counts()) {
    std::vector<std::int32_t> ids;
    for (const char c : text) ids.push_back(first + static_cast<unsigned char>(c));
    words.emplace_back(std::move(ids), count);
  }
  while (static_cast<std::int64_t>(out.tokens.size()) < options.vocabulary) {
    std::map<Pair, std::int64_t> counts;
    for (const auto& [ids, count] : words) {
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) counts[{ids[i], ids[i + 1]}] += count;
    }
    const auto spelling = [&](std::int32_t id) {
      return formats::spell_bytes(out.tokens[static_cast<std::size_t>(id)]);
    };
    std::tuple<std::int64_t, std::string, std::string> most = {options.least_count, "", ""};
    std::optional<Pair> found;
    for (const auto& [pair, count] : counts) {
      const std::tuple candidate(count, spelling(pair.first), spelling(pair.second));
      if (candidate < most) continue;
      most = candidate;
      found = pair;
    }
    if (!found) break;
    const Pair best = *found;
    const std::string token =
        out.tokens[static_cast<std::size_t>(best.first)] + out.tokens[static_cast<std::size_t>(best.second)];
    const auto known = std::ranges::find(out.tokens.begin() + first, out.tokens.end(), token);
    const auto id = static_cast<std::int32_t>(known - out.tokens.begin());
    if (known == out.tokens.end()) out.tokens.push_back(token);
    if (std::ranges::find(out.merges, best) == out.merges.end()) out.merges.push_back(best);
    for (auto& [ids, count] : words) {
      std::vector<std::int32_t> merged;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (i + 1 < ids.size() && Pair(ids[i], ids[i + 1]) == best) {
          merged.push_back(id);
          ++i;
        } else {
          merged.push_back(ids[i]);
        }
      }
      ids = std::move(merged);
    }
  }
  return out;
}

// Few letters and long runs make ties, overlaps and tokens that are reached in two ways.
std::string random_text(std::uint64_t seed, std::size_t length, std::uint64_t letters) {
  Random random = random_stream(seed, {});
  std::string text;
  while (text.size() < length) {
    if (below(random, 7) == 0) {
      text += ' ';
    } else if (below(random, 40) == 0) {
      text += "\xc3\xa9";
    } else {
      text.append(1 + (below(random, 5) == 0 ? below(random, 9) : 0), static_cast<char>('a' + below(random, letters)));
    }
  }
  return text;
}

TEST(TokenizerTraining, FindsTheMergesOfTheDefinition) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    TokenizerTrainingOptions options;
    options.vocabulary = 400;
    options.least_count = 1 + static_cast<std::int64_t>(seed % 3);
    if (seed % 2 == 0) options.special_tokens = {"<s>", "</s>"};
    auto trainer = TokenizerTrainer::make(options);
    ASSERT_TRUE(trainer);
    trainer->read(random_text(seed, 1500, 2 + seed % 5));
    const auto trained = trainer->train();
    ASSERT_TRUE(trained);
    const TrainedTokenizer expected = naive(trainer->words(), options);
    EXPECT_EQ(trained->merges, expected.merges) << seed;
    EXPECT_EQ(trained->tokens, expected.tokens) << seed;
  }
}

TEST(TokenizerTraining, WordsEndWhereThePatternCuts) {
  const auto words = [](std::string_view scheme, std::string_view text) {
    auto counter = WordCounter::make(scheme, std::vector<std::string>{"<|end|>", "<|"});
    EXPECT_TRUE(counter);
    counter->read(text);
    return std::map<std::string, std::int64_t>(counter->counts().begin(), counter->counts().end());
  };
  using Words = std::map<std::string, std::int64_t>;
  EXPECT_EQ(words("gpt-2", "the cat's the 123"), (Words{{"the", 1}, {" cat", 1}, {"'s", 1}, {" the", 1}, {" 123", 1}}));
  EXPECT_EQ(words("qwen2", "a 12"), (Words{{"a", 1}, {" ", 1}, {"1", 1}, {"2", 1}}));
  // Special tokens are no words, and end those before them; the longer one is meant where two begin.
  EXPECT_EQ(words("gpt-2", "a<|end|>b<|c"), (Words{{"a", 1}, {"b", 1}, {"c", 1}}));
  EXPECT_EQ(words("gpt-2", "a\xff\xffz"), (Words{{"a", 1}, {"\xff", 2}, {"z", 1}}));
  EXPECT_EQ(words("gpt-2", ""), Words());
  EXPECT_FALSE(WordCounter::make("gpt-7", {}));
}

TEST(TokenizerTraining, FilesBringTextsBack) {
  const std::string text = "Once upon a time there was a king, and the king's daughter sang 12 songs.\n\n";
  for (const char* split : {"gpt-2", "qwen2", "smollm"}) {
    TokenizerTrainingOptions options;
    options.vocabulary = 300;
    options.split = split;
    options.special_tokens = {"<|endoftext|>", "<|pad|>"};
    const TrainedTokenizer trained = trained_on({text, text, text}, options);
    const auto files = tokenizer_files(trained);
    ASSERT_TRUE(files) << files.error().message;
    const auto tokenizer = formats::parse_tokenizer_json(files->tokenizer, "trained");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    EXPECT_EQ((*tokenizer)->size(), static_cast<std::int64_t>(trained.tokens.size()));
    EXPECT_GT(trained.tokens.size(), 290U);
    const std::string odd = text + "Caf\xc3\xa9 \xe6\x97\xa5\xe6\x9c\xac <|pad|>\t\x01\xff\xc3(";
    const auto ids = (*tokenizer)->encode(odd);
    EXPECT_EQ((*tokenizer)->decode(ids, false), odd);
    EXPECT_EQ((*tokenizer)->encode("<|endoftext|>"), std::vector<formats::TokenId>{0});
    EXPECT_TRUE((*tokenizer)->is_special(1));
    for (std::size_t id = 2; id < trained.tokens.size(); ++id) {
      EXPECT_EQ((*tokenizer)->token_bytes(static_cast<formats::TokenId>(id)), trained.tokens[id]);
    }
    const auto config = nlohmann::json::parse(files->config);
    EXPECT_EQ(config["eos_token"], "<|endoftext|>");
  }
}

TEST(TokenizerTraining, StopsWhereTheTextHasNoMorePairs) {
  const TrainedTokenizer trained = trained_on({"abab abab"}, {.vocabulary = 2048});
  // "ab", then "abab"; " abab" is there once only.
  ASSERT_EQ(trained.tokens.size(), 1U + 256 + 2);
  EXPECT_EQ(trained.tokens[257], "ab");
  EXPECT_EQ(trained.tokens[258], "abab");
  EXPECT_EQ(trained_on({}, {}).merges.size(), 0U);
}

TEST(TokenizerTraining, IsStoppedByItsProgress) {
  auto trainer = TokenizerTrainer::make({.vocabulary = 400});
  trainer->read(random_text(1, 2000, 6));
  const auto trained = trainer->train([](std::int64_t done, std::int64_t) { return done < 300; });
  ASSERT_FALSE(trained);
  EXPECT_EQ(trained.error().code, ErrorCode::kCancelled);
}

TEST(TokenizerTraining, ReadingTellsHowFarItCame) {
  auto counter = WordCounter::make("gpt-2", std::vector<std::string>{"<|end|>"});
  std::string text;
  while (text.size() < std::size_t{5} << 20) text += "some words and more<|end|>";
  std::vector<std::int64_t> seen;
  EXPECT_TRUE(counter->read(text, [&](std::int64_t bytes) {
    seen.push_back(bytes);
    return true;
  }));
  EXPECT_EQ(counter->bytes(), static_cast<std::int64_t>(text.size())) << "special tokens count as read";
  EXPECT_GE(seen.size(), 3U);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_FALSE(counter->read(text, [](std::int64_t) { return false; }));
  EXPECT_LT(counter->bytes(), static_cast<std::int64_t>(2 * text.size()));
}

TEST(TokenizerTraining, RefusesOptionsByName) {
  const auto refusal = [](TokenizerTrainingOptions options) {
    const auto trainer = TokenizerTrainer::make(std::move(options));
    return trainer ? std::string() : trainer.error().message;
  };
  EXPECT_NE(refusal({.vocabulary = 256}).find("256"), std::string::npos);
  EXPECT_EQ(refusal({.vocabulary = 257}), "");
  EXPECT_NE(refusal({.vocabulary = std::int64_t{1} << 40}), "");
  EXPECT_NE(refusal({.special_tokens = {"<a>", "<a>"}}).find("'<a>' is named twice"), std::string::npos);
  EXPECT_NE(refusal({.special_tokens = {"a"}}), "");
  EXPECT_NE(refusal({.split = "none"}).find("'none'"), std::string::npos);
  EXPECT_NE(refusal({.least_count = 0}), "");
}

// Eight megabytes of tales. The bundled model's tokenizer was trained on them by another program.
TEST(TokenizerTraining, TalesGiveTheTokensOfTheBundledTokenizer) {
  KRAIT_REQUIRE_SHARED_DATA(shared);
  auto trainer = TokenizerTrainer::make({});
  const auto file = formats::MappedFile::open(shared / "data" / "tales" / "train.txt");
  ASSERT_TRUE(file) << file.error().message;
  trainer->read({reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()});
  const auto trained = trainer->train();
  ASSERT_TRUE(trained);
  const auto files = tokenizer_files(*trained);
  ASSERT_TRUE(files);

  const auto bundled_path = std::filesystem::path(KRAIT_SOURCE_DIR) / "models" / "tales" / "tokenizer.json";
  std::ifstream stream(bundled_path);
  const auto bundled = nlohmann::json::parse(stream);
  const auto ours = nlohmann::json::parse(files->tokenizer);
  EXPECT_EQ(ours["model"]["merges"], bundled["model"]["merges"]);
  EXPECT_EQ(ours["model"]["vocab"], bundled["model"]["vocab"]);
}

}  // namespace
}  // namespace krait::train
