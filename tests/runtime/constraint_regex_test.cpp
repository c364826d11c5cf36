// Regular expressions under constraints against PCRE2, on random expressions and random texts, and by hand.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include "krait/formats/grammar_regex.h"
#include "tests/runtime/constraint_walk.h"

namespace krait::tests {
namespace {

using formats::grammar_of_regex;

std::shared_ptr<const Constraint> regex(std::string_view pattern) {
  auto grammar = grammar_of_regex(pattern);
  if (!grammar) throw std::runtime_error(grammar.error().message);
  return compiled(*grammar, byte_vocabulary());
}

class Pcre {
 public:
  explicit Pcre(const std::string& pattern) {
    const std::string whole = fmt::format("\\A(?:{})\\z", pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), PCRE2_UTF, &error, &offset, nullptr);
    if (code_ == nullptr) throw std::runtime_error("PCRE2 refuses " + whole);
    data_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Pcre() {
    pcre2_match_data_free(data_);
    pcre2_code_free(code_);
  }
  Pcre(const Pcre&) = delete;
  Pcre& operator=(const Pcre&) = delete;

  bool takes(const std::string& text) const {
    const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, data_, nullptr);
    if (found < PCRE2_ERROR_NOMATCH) throw std::runtime_error(fmt::format("PCRE2 fails with {}", found));
    return found >= 0;
  }

 private:
  pcre2_code* code_;
  pcre2_match_data* data_;
};

// The letters that expressions and texts are made of: few, so that texts match, and of one to four bytes.
const std::vector<std::string> kLetters = {"a",  "b", "c", "0",  "7",  "_",  "-",         " ",
                                           "\n", "é", "ß", "漢", "字", "😀", "\U0010FFFF"};
constexpr std::size_t kFirstWide = 9;  // of more than one byte, from there on

std::string random_expression(Random& random, int depth) {
  const auto upto = [&](std::uint64_t n) { return static_cast<int>(random.next() % n); };
  const auto letter = [&] { return kLetters[random.next() % kLetters.size()]; };
  const auto wide = [&] { return kLetters[kFirstWide + random.next() % (kLetters.size() - kFirstWide)]; };
  switch (depth == 0 ? upto(6) : upto(12)) {
    case 0:
    case 1: return letter();
    case 2: {
      const char* classes[] = {"\\d", "\\w", "\\s", "\\D", "\\W", "\\S", "."};
      return classes[upto(7)];
    }
    case 3: return fmt::format("[{}b{}]", upto(2) == 0 ? "^" : "", wide());
    case 4: return fmt::format("[{}a-c{}\\d]", upto(2) == 0 ? "^" : "", wide());
    case 5: return fmt::format("[{}é-漢]", upto(2) == 0 ? "^" : "");
    case 6: return fmt::format("(?:{}|{})", random_expression(random, depth - 1), random_expression(random, depth - 1));
    case 7: return fmt::format("({}|{}|)", random_expression(random, depth - 1), random_expression(random, depth - 1));
    case 8: {
      const char* quantifiers[] = {"*", "+", "?", "*?", "{2}", "{1,}", "{0,2}", "{1,3}"};
      return fmt::format("(?:{}){}", random_expression(random, depth - 1), quantifiers[upto(8)]);
    }
    default: return random_expression(random, depth - 1) + random_expression(random, depth - 1);
  }
}

TEST(ConstraintRegex, AgreesWithPcreOnRandomExpressionsAndTexts) {
  Random random(11);
  int matched = 0, compared = 0, written = 0;
  for (int i = 0; i < 1500; ++i) {
    const std::string expression = random_expression(random, 4);
    const Pcre peer(expression);
    const auto constraint = regex(expression);
    const auto compare = [&](const std::string& text) {
      const bool expected = peer.takes(text);
      ASSERT_EQ(takes(constraint, text), expected) << "'" << expression << "' on '" << text << "'";
      matched += expected ? 1 : 0;
      ++compared;
    };
    for (int j = 0; j < 20; ++j) {
      std::string text;
      for (std::uint64_t k = random.next() % 6; k > 0; --k) text += kLetters[random.next() % kLetters.size()];
      compare(text);
    }
    // What the masks write must match, too.
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const auto text = random_text(constraint, 256, seed, 30);
      if (!text) continue;  // few ways lead out of its loop
      ++written;
      ASSERT_TRUE(peer.takes(*text)) << "'" << expression << "' wrote '" << *text << "'";
    }
  }
  EXPECT_GT(matched, compared / 20);
  EXPECT_GT(written, 5000);  // of 6000
}

TEST(ConstraintRegex, TakesEveryCharacterOfARangeAndNoOther) {
  // The ends of each length of UTF-8, and what lies next to them.
  const auto constraint = regex("[\\u{7F}-\\u{10000}]");
  EXPECT_FALSE(takes(constraint, "\x7E"));
  EXPECT_TRUE(takes(constraint, "\x7F"));
  EXPECT_TRUE(takes(constraint, "\u0080"));
  EXPECT_TRUE(takes(constraint, "\u07FF"));
  EXPECT_TRUE(takes(constraint, "\u0800"));
  EXPECT_TRUE(takes(constraint, "\uD7FF"));
  EXPECT_FALSE(takes(constraint, "\xED\xA0\x80"));  // a surrogate
  EXPECT_TRUE(takes(constraint, "\uFFFF"));
  EXPECT_TRUE(takes(constraint, "\U00010000"));
  EXPECT_FALSE(takes(constraint, "\U00010001"));
  EXPECT_FALSE(takes(constraint, "\xC1\xBF"));  // overlong
}

TEST(ConstraintRegex, AnchorsAtTheEndsAreImplied) {
  EXPECT_TRUE(takes(regex("^ab$"), "ab"));
  EXPECT_FALSE(takes(regex("b"), "ab"));
  EXPECT_TRUE(takes(regex("^a|b$"), "b"));
}

TEST(ConstraintRegex, RefusesByNameWhatNoAutomatonDecides) {
  const auto message = [](std::string_view pattern) {
    const auto grammar = grammar_of_regex(pattern);
    return grammar ? "none" : grammar.error().message;
  };
  EXPECT_NE(message("(a)\\1").find("a backreference"), std::string::npos) << message("(a)\\1");
  EXPECT_NE(message("(?=a)b").find("lookahead"), std::string::npos);
  EXPECT_NE(message("(?!a)b").find("lookahead"), std::string::npos);
  EXPECT_NE(message("(?<=a)b").find("lookbehind"), std::string::npos);
  EXPECT_NE(message("\\bfoo").find("a word boundary"), std::string::npos);
  EXPECT_NE(message("\\p{L}").find("a Unicode property"), std::string::npos);
  EXPECT_NE(message("a++").find("possessive"), std::string::npos);
  EXPECT_NE(message("a(^b)").find("anchor"), std::string::npos);
  EXPECT_NE(message("(?i)a").find("inline flag"), std::string::npos);
}

TEST(ConstraintRegex, RefusesBrokenExpressions) {
  for (const char* pattern : {"(", ")", "a)", "[", "[]", "[z-a]", "a{3,2}", "*a", "a**", "\\", "\\q", "\\x1", "\\uD800",
                              "[\\d-z]", "(?<>a)", "a{99999}", "\xFF"}) {
    const auto grammar = grammar_of_regex(pattern);
    ASSERT_FALSE(grammar.has_value()) << pattern;
    EXPECT_NE(grammar.error().message.find("[regex]"), std::string::npos) << grammar.error().message;
  }
}

TEST(ConstraintRegex, BoundsTheSizeOfWhatRepetitionsUnfoldTo) {
  const auto vocabulary = byte_vocabulary();
  for (const char* pattern :
       {"(((a{100}){100}){100}){100}", "((a?){10000}){10000}", "(((((a|b)*c)*d){500}){500}){500}"}) {
    const auto grammar = grammar_of_regex(pattern);
    ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
    const auto constraint = Constraint::compile(*grammar, vocabulary, {256});
    ASSERT_FALSE(constraint.has_value()) << pattern;
    EXPECT_EQ(constraint.error().code, ErrorCode::kResourceExhausted);
  }
  // Nothing, however often it is repeated, stays nothing.
  EXPECT_TRUE(takes(regex("(((){10000}){10000}){10000}a"), "a"));
}

TEST(ConstraintRegex, MemoryStaysBoundedWhereTheAutomatonIsExponential) {
  // Which of the last 20 letters were `a`: two million states, of which a text meets one a letter.
  const auto constraint = regex("(a|b)*a(a|b){20}");
  ConstraintMatcher matcher(constraint);
  Random random(3);
  for (int i = 0; i < 150'000; ++i) ASSERT_TRUE(matcher.accept_bytes(random.next() % 2 == 0 ? "a" : "b"));
  EXPECT_GT(constraint->work().restarts, 0);
  ASSERT_TRUE(matcher.accept_bytes(fmt::format("a{:b>20}", "")));
  EXPECT_TRUE(matcher.may_end());
  ASSERT_TRUE(matcher.accept_bytes("b"));
  ASSERT_TRUE(matcher.accept_bytes(std::string(30, 'b')));
  EXPECT_FALSE(matcher.may_end());
}

TEST(ConstraintRegex, SaysWhenNothingMatches) {
  const auto grammar = grammar_of_regex("a[^\\u{0}-\\u{10FFFF}]");
  ASSERT_TRUE(grammar.has_value());
  const auto constraint = Constraint::compile(*grammar, byte_vocabulary(), {256});
  ASSERT_FALSE(constraint.has_value());
  EXPECT_NE(constraint.error().message.find("no text can match"), std::string::npos);
}

}  // namespace
}  // namespace krait::tests
