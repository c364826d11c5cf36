#include "krait/formats/grammar_regex.h"

#include <charconv>
#include <optional>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using Expression = Grammar::Expression;

constexpr int kMaximumDepth = 100;  // of groups in groups

const CodePoints kDigits = {{'0', '9'}};
const CodePoints kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
// Dialects differ in what is white space and what ends a line. A set and its complement each keep to what all agree on,
// so that every validator takes what was written.
const CodePoints kSpace = {{'\t', '\r'}, {' ', ' '}};
const CodePoints kSpaceOfSome = {{'\t', '\r'},     {0x1C, ' '},      {0x85, 0x85},     {0xA0, 0xA0},
                                 {0x1680, 0x1680}, {0x180E, 0x180E}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                 {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CodePoints kLineEnd = {{'\n', '\n'}, {'\r', '\r'}, {0x85, 0x85}, {0x2028, 0x2029}};
const CodePoints kAnything = {{0, kLastCodePoint}};

class RegexParser {
 public:
  RegexParser(Grammar& grammar, std::string_view pattern, Spelling spelling, RegexMatch match)
      : grammar_(grammar), pattern_(pattern), spelling_(spelling), match_(match) {}

  Result<Expression> parse() {
    if (pattern_.size() > kMaximumRegexBytes) {
      return fail(ErrorCode::kInvalidArgument, "[regex] the expression has {} bytes; the limit is {}", pattern_.size(),
                  kMaximumRegexBytes);
    }
    if (valid_utf8_end(pattern_, 0) != pattern_.size()) {
      return fail(ErrorCode::kInvalidArgument, "[regex] the expression is not UTF-8 at byte {}",
                  valid_utf8_end(pattern_, 0));
    }
    KRAIT_ASSIGN(const Expression all, alternatives(0));
    if (at_ < pattern_.size()) return wrong("a ')' that closes nothing");
    return all;
  }

 private:
  std::unexpected<Error> wrong(std::string_view what) const {
    return fail(ErrorCode::kInvalidArgument, "[regex] {} at byte {} of '{:.200}'", what, at_, pattern_);
  }
  std::unexpected<Error> refused(std::string_view what) const {
    return fail(ErrorCode::kUnsupported, "[regex] {} (byte {} of '{:.200}'): an automaton cannot follow it", what, at_,
                pattern_);
  }
  bool next_is(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool take(std::string_view text) {
    if (!next_is(text)) return false;
    at_ += text.size();
    return true;
  }
  char32_t take_character() {
    const Utf8Step step = read_utf8(pattern_, at_);
    at_ += step.length;
    return step.code;
  }

  // a|b|c, up to a ')' or the end.
  Result<Expression> alternatives(int depth) {
    if (depth > kMaximumDepth) return wrong("groups nested too deep");
    std::vector<Expression> parts;
    do {
      KRAIT_ASSIGN(const Expression part, sequence(depth));
      parts.push_back(part);
    } while (take("|"));
    return grammar_.choice(std::move(parts));
  }

  Result<Expression> sequence(int depth) {
    std::vector<Expression> parts;
    bool from_start = match_ == RegexMatch::kWhole, to_end = from_start;
    if (depth == 0) {
      while (take("^")) from_start = true;
    }
    while (at_ < pattern_.size() && !next_is("|") && !next_is(")")) {
      if (depth == 0 && next_is("$")) {
        while (take("$")) to_end = true;
        if (at_ < pattern_.size() && !next_is("|")) return refused("an anchor '$' in the middle");
        break;
      }
      KRAIT_ASSIGN(const Expression part, repeated(depth));
      parts.push_back(part);
    }
    if (depth == 0 && (!from_start || !to_end)) {
      const Expression anything = grammar_.repeat(grammar_.characters(kAnything, spelling_), 0, Grammar::kUnlimited);
      if (!from_start) parts.insert(parts.begin(), anything);
      if (!to_end) parts.push_back(anything);
    }
    return grammar_.sequence(std::move(parts));
  }

  Result<Expression> repeated(int depth) {
    KRAIT_ASSIGN(Expression part, atom(depth));
    bool again = false;
    for (;;) {
      std::int32_t least = 0, most = 0;
      if (take("*")) {
        most = Grammar::kUnlimited;
      } else if (take("+")) {
        least = 1;
        most = Grammar::kUnlimited;
      } else if (take("?")) {
        most = 1;
      } else {
        KRAIT_ASSIGN(const bool counted, braces(least, most));
        if (!counted) return part;
      }
      if (again) return wrong("two quantifiers in a row: put the first into a group");
      again = true;
      take("?");
      if (next_is("+")) return refused("a possessive quantifier");
      part = grammar_.repeat(part, least, most);
    }
  }

  // {m}, {m,}, {,n} and {m,n}; a brace that begins none of them stands for itself.
  Result<bool> braces(std::int32_t& least, std::int32_t& most) {
    if (!next_is("{")) return false;
    std::size_t i = at_ + 1;
    const auto number = [&]() -> std::optional<std::int64_t> {
      const std::size_t from = i;
      std::int64_t value = 0;
      while (i < pattern_.size() && pattern_[i] >= '0' && pattern_[i] <= '9') {
        value = std::min<std::int64_t>(value * 10 + (pattern_[i++] - '0'), std::int64_t{1} << 40);
      }
      return i == from ? std::nullopt : std::optional(value);
    };
    const auto low = number();
    auto high = low;
    if (i < pattern_.size() && pattern_[i] == ',') {
      ++i;
      high = number();
      if (!low && !high) return false;
    } else if (!low) {
      return false;
    }
    if (i >= pattern_.size() || pattern_[i] != '}') return false;
    const std::int64_t smallest = low.value_or(0), largest = high.value_or(smallest);
    if (std::max(smallest, largest) > kMaximumRegexRepetitions) {
      return fail(ErrorCode::kInvalidArgument, "[regex] {} repetitions at byte {} of '{:.200}'; the limit is {}",
                  std::max(smallest, largest), at_, pattern_, kMaximumRegexRepetitions);
    }
    if (largest < smallest) return wrong("a quantifier whose bounds are out of order");
    at_ = i + 1;
    least = static_cast<std::int32_t>(smallest);
    most = high ? static_cast<std::int32_t>(largest) : Grammar::kUnlimited;
    return true;
  }

  Result<Expression> atom(int depth) {
    if (take("(")) return group(depth);
    if (take("[")) {
      KRAIT_ASSIGN(const CodePoints set, bracket());
      return grammar_.characters(set, spelling_);
    }
    if (take(".")) return grammar_.characters(complement(kLineEnd), spelling_);
    if (next_is("^") || next_is("$")) return refused("an anchor in the middle or within a group");
    if (next_is("*") || next_is("+") || next_is("?")) return wrong("a quantifier with nothing before it");
    if (take("\\")) {
      KRAIT_ASSIGN(const CodePoints set, escape(false, false));
      return grammar_.characters(set, spelling_);
    }
    const char32_t code = take_character();
    return grammar_.characters({{code, code}}, spelling_);
  }

  Result<Expression> group(int depth) {
    if (next_is("?=") || next_is("?!")) return refused("lookahead");
    if (next_is("?<=") || next_is("?<!")) return refused("lookbehind");
    if (next_is("?>")) return refused("an atomic group");
    if (next_is("?P=")) return refused("a backreference");
    if (take("?P<") || take("?<")) {
      const std::size_t close = pattern_.find('>', at_);
      if (close == std::string_view::npos || close == at_) return wrong("a group without a name");
      at_ = close + 1;
    } else if (!take("?:") && next_is("?")) {
      return refused("an inline flag, comment or condition '(?'");
    }
    if (next_is("*")) return refused("a verb '(*'");
    KRAIT_ASSIGN(const Expression inner, alternatives(depth + 1));
    if (!take(")")) return wrong("a group that is not closed");
    return inner;
  }

  Result<CodePoints> bracket() {
    const bool negated = take("^");
    CodePoints set;
    for (bool first = true;; first = false) {
      if (at_ >= pattern_.size()) return wrong("a class that is not closed");
      if (!first && take("]")) break;
      if (first && next_is("]")) return wrong("an empty class (write a ']' within a class as '\\]')");
      if (next_is("[:") || next_is("[.") || next_is("[=")) return refused("a POSIX class");
      KRAIT_ASSIGN(const CodePoints low, class_member(negated));
      const bool range = next_is("-") && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
      if (!range) {
        set.insert(set.end(), low.begin(), low.end());
        continue;
      }
      take("-");
      KRAIT_ASSIGN(const CodePoints high, class_member(negated));
      const auto single = [](const CodePoints& s) { return s.size() == 1 && s[0].first == s[0].last; };
      if (!single(low) || !single(high)) return wrong("a range that ends in a class");
      if (low[0].first > high[0].first) return wrong("a range out of order");
      set.push_back({low[0].first, high[0].first});
    }
    return negated ? complement(set) : normalized(std::move(set));
  }

  Result<CodePoints> class_member(bool negated) {
    if (take("\\")) return escape(true, negated);
    const char32_t code = take_character();
    return CodePoints{{code, code}};
  }

  // Behind a backslash; `negated` within a class [^…].
  Result<CodePoints> escape(bool in_class, bool negated) {
    if (at_ >= pattern_.size()) return wrong("a backslash at the end");
    const auto one = [](char32_t code) { return CodePoints{{code, code}}; };
    const char c = pattern_[at_];
    if (c >= '1' && c <= '9') return refused("a backreference");
    switch (c) {
      case 'b':
        if (!in_class) return refused("a word boundary");
        ++at_;
        return one('\b');
      case 'B': return refused("a word boundary");
      case 'k':
      case 'g': return refused("a backreference");
      case 'A':
      case 'z':
      case 'Z':
      case 'G': return refused("an anchor written as an escape");
      case 'p':
      case 'P': return refused("a Unicode property");
      default: break;
    }
    const char32_t code = take_character();
    switch (code) {
      case 'd': return kDigits;
      case 'D': return complement(kDigits);
      case 'w': return kWord;
      case 'W': return complement(kWord);
      case 's': return negated ? kSpaceOfSome : kSpace;
      case 'S': return complement(negated ? kSpace : kSpaceOfSome);
      case 'n': return one('\n');
      case 'r': return one('\r');
      case 't': return one('\t');
      case 'f': return one('\f');
      case 'v': return one('\v');
      case '0': return one(0);
      case 'x': return hexadecimal(2);
      case 'u': return hexadecimal(4);
      default: break;
    }
    if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) return wrong("an escape that has no meaning");
    return one(code);
  }

  Result<CodePoints> hexadecimal(std::size_t digits) {
    const bool braced = take("{");
    std::size_t length = digits;
    if (braced) {
      const std::size_t close = pattern_.find('}', at_);
      if (close == std::string_view::npos || close == at_ || close - at_ > 6)
        return wrong("a code point without digits");
      length = close - at_;
    }
    std::uint32_t code = 0;
    const std::string_view text = pattern_.substr(at_, length);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), code, 16);
    if (error != std::errc() || text.size() != length || end != text.data() + length) {
      return wrong("an escape that lacks hexadecimal digits");
    }
    if (code > kLastCodePoint || (code >= 0xD800 && code <= 0xDFFF)) return wrong("a code point that is no character");
    at_ += length + (braced ? 1 : 0);
    return CodePoints{{code, code}};
  }

  Grammar& grammar_;
  std::string_view pattern_;
  Spelling spelling_;
  RegexMatch match_;
  std::size_t at_ = 0;
};

}  // namespace

Result<Grammar::Expression> add_regex(Grammar& grammar, std::string_view pattern, Spelling spelling, RegexMatch match) {
  return RegexParser(grammar, pattern, spelling, match).parse();
}

Result<Grammar> grammar_of_regex(std::string_view pattern) {
  Grammar grammar;
  const std::int32_t root = grammar.add_rule("regex", false);
  KRAIT_ASSIGN(const Grammar::Expression body, add_regex(grammar, pattern, Spelling::kPlain, RegexMatch::kWhole));
  grammar.set_body(root, body);
  return grammar;
}

}  // namespace krait::formats
