#include "krait/runtime/constraint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "krait/formats/grammar_regex.h"
#include "krait/formats/json_schema.h"
#include "krait/runtime/sampler.h"
#include "tests/runtime/constraint_walk.h"

namespace krait::tests {
namespace {

using formats::Grammar;

Grammar regex(std::string_view pattern) {
  auto grammar = formats::grammar_of_regex(pattern);
  if (!grammar) throw std::runtime_error(grammar.error().message);
  return *std::move(grammar);
}

std::vector<std::string> texts_of(const std::vector<TokenId>& ids, const ConstraintVocabulary& vocabulary) {
  std::vector<std::string> texts;
  for (const TokenId id : ids) texts.emplace_back(vocabulary.bytes(id));
  std::ranges::sort(texts);
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Constraint, AllowsJustTheTokensThatLeadSomewhere) {
  const auto vocabulary = byte_vocabulary({"ab", "abc", "abd", "cab", "ab"});
  const auto constraint = compiled(regex("ab(c|e)"), vocabulary);
  ConstraintMatcher matcher(constraint);
  EXPECT_EQ(texts_of(allowed_tokens(matcher, *constraint), *vocabulary), (Texts{"a", "ab", "ab", "abc"}));
  ASSERT_TRUE(matcher.accept(256));
  EXPECT_EQ(texts_of(allowed_tokens(matcher, *constraint), *vocabulary), (Texts{"c", "e"}));
  EXPECT_FALSE(matcher.may_end());
  ASSERT_TRUE(matcher.accept('e'));
  EXPECT_TRUE(matcher.may_end());
  EXPECT_TRUE(matcher.must_end());
  EXPECT_EQ(allowed_tokens(matcher, *constraint), std::vector<TokenId>{last_token(*vocabulary)});
  ASSERT_TRUE(matcher.accept(last_token(*vocabulary)));
  EXPECT_TRUE(matcher.finished());
  EXPECT_TRUE(allowed_tokens(matcher, *constraint).empty());
}

// Rules that call themselves, of two grammars in a third.
TEST(Constraint, GrammarsStandWithinOthers) {
  const auto nested = [](const std::string& key) {
    return *formats::grammar_of_json_schema(
        R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {")" + key +
            R"(": {"$ref": "#/$defs/n"}}, "additionalProperties": false}}})",
        {.space = formats::JsonSpace::kNone});
  };
  Grammar grammar;
  const std::int32_t rule = grammar.add_rule("both", false);
  const Grammar::Expression first = grammar.embed(nested("a"));
  const Grammar::Expression second = grammar.embed(nested("b"));
  grammar.set_body(rule, grammar.sequence({first, grammar.literal("-"), second}));
  const auto constraint = compiled(grammar, byte_vocabulary({}));
  const auto fits = [&](std::string_view text) {
    ConstraintMatcher matcher(constraint);
    return matcher.accept_bytes(text) && matcher.may_end();
  };
  EXPECT_TRUE(fits(R"({"a":{"a":{}}}-{"b":{}})"));
  EXPECT_TRUE(fits("{}-{}"));
  EXPECT_FALSE(fits(R"({"b":{}}-{})"));
  EXPECT_FALSE(fits(R"({}-{"b":{"a":{}}})"));
  EXPECT_FALSE(fits("{}"));
}

TEST(Constraint, RefusedTokensChangeNothing) {
  const auto vocabulary = byte_vocabulary({"ax"});
  const auto constraint = compiled(regex("ab"), vocabulary);
  ConstraintMatcher matcher(constraint);
  EXPECT_FALSE(matcher.accept('b'));
  EXPECT_FALSE(matcher.accept(256));                      // right at first, wrong then
  EXPECT_FALSE(matcher.accept(last_token(*vocabulary)));  // not yet
  EXPECT_FALSE(matcher.accept(-1));
  EXPECT_FALSE(matcher.accept(static_cast<TokenId>(vocabulary->size())));
  EXPECT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.accept('b'));
}

TEST(Constraint, TokensMayBePartsOfACharacter) {
  const auto vocabulary = byte_vocabulary({"\xE6\xBC", "\xA2!", "x\xE6"});
  const auto constraint = compiled(regex("[一-龯]+!"), vocabulary);
  ConstraintMatcher matcher(constraint);
  ASSERT_TRUE(matcher.accept(256));
  EXPECT_FALSE(matcher.accept('!'));
  ASSERT_TRUE(matcher.accept(257));  // the character's last byte, and more
  EXPECT_TRUE(matcher.may_end());
}

TEST(Constraint, NeverStepsIntoWhatTheVocabularyCannotFinish) {
  // `x` stands in a token only: after "a" it cannot be written, after "ab" it comes with the token "bx".
  const auto vocabulary = std::make_shared<const ConstraintVocabulary>(Texts{"a", "b", "c", "bx", "ax", ""});
  const auto constraint = compiled(regex("a(x|c)|b(bx|c)?"), vocabulary);
  ConstraintMatcher matcher(constraint);
  EXPECT_EQ(texts_of(allowed_tokens(matcher, *constraint), *vocabulary), (Texts{"a", "ax", "b"}));
  ASSERT_TRUE(matcher.accept(1));
  // "b" would need an x behind it; "bx" has it.
  EXPECT_EQ(texts_of(allowed_tokens(matcher, *constraint), *vocabulary), (Texts{"", "bx", "c"}));
  const auto impossible = Constraint::compile(regex("cx"), vocabulary, {5});
  ASSERT_FALSE(impossible.has_value());
  EXPECT_NE(impossible.error().message.find("tokens of one byte"), std::string::npos);
}

TEST(Constraint, ACopyGoesItsOwnWay) {
  const auto constraint = compiled(regex("a(b|c)"), byte_vocabulary());
  ConstraintMatcher matcher(constraint);
  ASSERT_TRUE(matcher.accept('a'));
  ConstraintMatcher fork = matcher;
  ASSERT_TRUE(matcher.accept('b'));
  EXPECT_TRUE(matcher.may_end());
  EXPECT_FALSE(fork.may_end());
  EXPECT_TRUE(fork.accept('c'));
}

TEST(Constraint, ChoicesAreTakenAsTheyAre) {
  const Texts choices = {"yes", "no", "no, never", "(.*)"};
  const auto constraint = compiled(formats::grammar_of_choices(choices), byte_vocabulary());
  for (const std::string& choice : choices) EXPECT_TRUE(takes(constraint, choice));
  for (const char* other : {"", "ye", "yess", "no,", "x"}) EXPECT_FALSE(takes(constraint, other)) << other;
  const auto none = Constraint::compile(formats::grammar_of_choices({}), byte_vocabulary(), {256});
  EXPECT_FALSE(none.has_value());
}

TEST(Constraint, NeedsAnEndOfTheVocabulary) {
  EXPECT_FALSE(Constraint::compile(regex("a"), byte_vocabulary(), {}).has_value());
  EXPECT_FALSE(Constraint::compile(regex("a"), byte_vocabulary(), {257}).has_value());
  EXPECT_FALSE(Constraint::compile(regex("a"), byte_vocabulary(), {-1}).has_value());
}

TEST(Constraint, EndTokensDoNotStandInTheText) {
  const auto constraint = compiled(regex("a*"), byte_vocabulary(), 'a');
  ConstraintMatcher matcher(constraint);
  ASSERT_TRUE(matcher.accept('a'));
  EXPECT_TRUE(matcher.finished());
}

TEST(Constraint, AMaskIsMadeOnceForAState) {
  const auto constraint = compiled(regex("\"[^\"]*\""), byte_vocabulary());
  ConstraintMatcher matcher(constraint);
  ASSERT_TRUE(matcher.accept('"'));
  std::vector<std::uint64_t> mask(constraint->mask_words());
  for (int i = 0; i < 100; ++i) {
    matcher.allowed(mask);
    ASSERT_TRUE(matcher.accept('x'));
  }
  const Constraint::Work work = constraint->work();
  EXPECT_EQ(work.masks, 100);
  EXPECT_EQ(work.masks_made, 1);
  EXPECT_EQ(work.nodes_visited, 256);  // the tokens of this vocabulary
}

TEST(Constraint, AWalkSkipsTokensThatBeginWrong) {
  Texts more;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) more.push_back({a, b, a, b});
  }
  const auto constraint = compiled(regex("q+"), byte_vocabulary(more));
  ConstraintMatcher matcher(constraint);
  allowed_tokens(matcher, *constraint);
  // 256 first bytes; behind q the 26 second ones; behind qq two more.
  EXPECT_EQ(constraint->work().nodes_visited, 256 + 26 + 2);
}

TEST(Constraint, ThreadsShareWhatWasLearnt) {
  const auto grammar = formats::grammar_of_json_object({});
  const auto constraint = compiled(grammar, byte_vocabulary({"\":", "{\"", "\"}", "]}"}));
  std::vector<std::thread> threads;
  std::vector<std::optional<std::string>> texts(4);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] { texts[i] = random_text(constraint, last_token(constraint->vocabulary()), 5, 200); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& text : texts) {
    ASSERT_TRUE(text.has_value());
    EXPECT_EQ(text, texts[0]);
  }
}

// What a masked draw must be: the softmax of the allowed logits alone. Three standard deviations of a frequency over
// 20,000 draws are at most 3 × sqrt(0.25 / 20000) = 0.011.
TEST(ConstraintSampler, DrawsAreTheRenormalisedDistribution) {
  const std::vector<float> logits = {std::log(0.5F), std::log(0.3F), std::log(0.15F), std::log(0.05F)};
  const std::vector<std::uint64_t> mask = {0b1010};
  std::map<TokenId, double> counts;
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    runtime::SamplerOptions options;
    options.temperature = 1;
    options.top_k = 0;
    options.top_p = 1;
    options.seed = seed;
    counts[runtime::Sampler(options, 4).sample(logits, mask)] += 1.0 / 20000;
  }
  EXPECT_EQ(counts.size(), 2U);
  EXPECT_NEAR(counts[1], 0.3 / 0.35, 0.011);
  EXPECT_NEAR(counts[3], 0.05 / 0.35, 0.011);
}

TEST(ConstraintSampler, NeverChoosesAForbiddenToken) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  Random random(17);
  for (int i = 0; i < 3000; ++i) {
    const std::size_t V = 1 + random.next() % 150;
    std::vector<float> logits(V);
    for (float& logit : logits) {
      logit = static_cast<float>(random.normal() * 10);
      if (random.uniform() < 0.1) logit = kInfinity;
      if (random.uniform() < 0.3) logit = -kInfinity;
      if (random.uniform() < 0.1) logit = kNan;
    }
    std::vector<std::uint64_t> mask((V + 63) / 64);
    const auto allow = [&](std::size_t id) { mask[id / 64] |= std::uint64_t{1} << (id % 64); };
    allow(random.next() % V);
    for (std::size_t id = 0; id < V; ++id) {
      if (random.uniform() < 0.05) allow(id);
    }
    runtime::SamplerOptions options;
    options.temperature = i % 3 == 0 ? 0.0F : 1.0F;
    options.top_k = static_cast<std::int64_t>(random.next() % 5);
    options.top_p = i % 2 == 0 ? 1.0F : 0.5F;
    options.min_p = i % 5 == 0 ? 0.3F : 0.0F;
    options.repetition_penalty = 1.5F;
    options.seed = random.next();
    options.logit_bias = {{static_cast<TokenId>(random.next() % V), kInfinity},
                          {static_cast<TokenId>(random.next() % V), -kInfinity}};
    runtime::Sampler sampler(options, static_cast<std::int64_t>(V));
    for (int draw = 0; draw < 3; ++draw) {
      const TokenId id = sampler.sample(logits, mask);
      ASSERT_TRUE((mask[static_cast<std::size_t>(id) / 64] >> (id % 64)) & 1) << "token " << id << " of " << V;
    }
  }
}

TEST(ConstraintSampler, AFullMaskChangesNothing) {
  std::vector<float> logits(100);
  Random random(4);
  for (float& logit : logits) logit = static_cast<float>(random.normal());
  const std::vector<std::uint64_t> all(2, ~std::uint64_t{0});
  runtime::Sampler masked({}, 100), plain({}, 100);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(masked.sample(logits, all), plain.sample(logits));
}

TEST(ConstraintSampler, AnEmptyMaskIsTheCallersMistake) {
  runtime::Sampler sampler({}, 3);
  EXPECT_THROW(sampler.sample(std::vector<float>{1, 2, 3}, std::vector<std::uint64_t>{0}), UserError);
  EXPECT_THROW(sampler.sample(std::vector<float>{1, 2, 3}, std::vector<std::uint64_t>{8}), UserError);
}

}  // namespace
}  // namespace krait::tests
