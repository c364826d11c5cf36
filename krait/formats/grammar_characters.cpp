// Sets of code points, and the bytes of their characters: a range of code points is cut until each piece is a sequence
// of byte ranges that are independent of each other (Unicode 15, table 3-7).
#include <algorithm>
#include <array>

#include "krait/formats/grammar.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

constexpr CodePointRange kSurrogates{0xD800, 0xDFFF};

using Expression = Grammar::Expression;

// Appends what the range's characters look like as UTF-8.
void append_utf8_range(Grammar& grammar, char32_t first, char32_t last, std::vector<Expression>& out) {
  for (const char32_t boundary : {0x7FU, 0x7FFU, 0xFFFFU}) {  // the last character of one, two and three bytes
    if (first <= boundary && boundary < last) {
      append_utf8_range(grammar, first, boundary, out);
      append_utf8_range(grammar, boundary + 1, last, out);
      return;
    }
  }
  // Where a higher byte varies, the lower ones must run over everything.
  for (int level = 1; level <= 3 && last > 0x7F; ++level) {
    const char32_t low_bits = (char32_t{1} << (6 * level)) - 1;
    if ((first & ~low_bits) == (last & ~low_bits)) continue;
    if ((first & low_bits) != 0) {
      append_utf8_range(grammar, first, first | low_bits, out);
      append_utf8_range(grammar, (first | low_bits) + 1, last, out);
      return;
    }
    if ((last & low_bits) != low_bits) {
      append_utf8_range(grammar, first, (last & ~low_bits) - 1, out);
      append_utf8_range(grammar, last & ~low_bits, last, out);
      return;
    }
  }
  std::string low, high;
  append_utf8(first, low);
  append_utf8(last, high);
  std::vector<Expression> parts;
  for (std::size_t i = 0; i < low.size(); ++i) {
    parts.push_back(grammar.bytes(static_cast<std::uint8_t>(low[i]), static_cast<std::uint8_t>(high[i])));
  }
  out.push_back(grammar.sequence(std::move(parts)));
}

// The escape of a character that may not stand in a JSON string as it is; nothing for others.
Expression escape_of(Grammar& grammar, char32_t code) {
  constexpr std::array<std::pair<char32_t, const char*>, 7> kShort = {
      {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}}};
  for (const auto& [character, spelling] : kShort) {
    if (code == character) return grammar.literal(spelling);
  }
  const auto digit = static_cast<std::uint8_t>(code & 0xF);
  std::vector<Expression> parts = {grammar.literal(code < 0x10 ? "\\u000" : "\\u001")};
  if (digit < 10) {
    parts.push_back(grammar.bytes('0' + digit, '0' + digit));
  } else {
    const auto letter = static_cast<std::uint8_t>(digit - 10);
    parts.push_back(
        grammar.choice({grammar.bytes('a' + letter, 'a' + letter), grammar.bytes('A' + letter, 'A' + letter)}));
  }
  return grammar.sequence(std::move(parts));
}

bool is_escaped(char32_t code) { return code < 0x20 || code == '"' || code == '\\'; }

}  // namespace

CodePoints normalized(CodePoints ranges) {
  CodePoints whole;
  for (const CodePointRange range : ranges) {
    if (range.first < kSurrogates.first) {
      whole.push_back({range.first, std::min<char32_t>(range.last, kSurrogates.first - 1)});
    }
    if (range.last > kSurrogates.last)
      whole.push_back({std::max<char32_t>(range.first, kSurrogates.last + 1), range.last});
  }
  std::ranges::sort(whole, {}, &CodePointRange::first);
  CodePoints merged;
  for (const CodePointRange range : whole) {
    if (range.first > range.last) continue;
    if (!merged.empty() && range.first <= merged.back().last + 1) {
      merged.back().last = std::max(merged.back().last, range.last);
    } else {
      merged.push_back(range);
    }
  }
  return merged;
}

CodePoints complement(const CodePoints& ranges) {
  CodePoints others;
  char32_t next = 0;
  for (const CodePointRange range : normalized(ranges)) {
    if (range.first > next) others.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) others.push_back({next, kLastCodePoint});
  return normalized(std::move(others));
}

Expression Grammar::characters(const CodePoints& set, Spelling spelling) {
  std::vector<Expression> alternatives;
  for (const CodePointRange range : normalized(set)) {
    if (spelling == Spelling::kPlain) {
      append_utf8_range(*this, range.first, range.last, alternatives);
      continue;
    }
    char32_t plain = range.first;  // the first that is not written yet
    for (char32_t code = range.first; code <= std::min<char32_t>(range.last, '\\'); ++code) {
      if (!is_escaped(code)) continue;
      if (plain < code) append_utf8_range(*this, plain, code - 1, alternatives);
      alternatives.push_back(escape_of(*this, code));
      plain = code + 1;
    }
    if (plain <= range.last) append_utf8_range(*this, plain, range.last, alternatives);
  }
  return choice(std::move(alternatives));
}

Expression Grammar::text(std::string_view text, Spelling spelling) {
  if (spelling == Spelling::kPlain) return literal(text);
  std::vector<Expression> parts;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    const bool escaped = step.status == Utf8Step::kValid && is_escaped(step.code);
    parts.push_back(escaped ? escape_of(*this, step.code) : literal(text.substr(at, step.length)));
    at += step.length;
  }
  return sequence(std::move(parts));
}

}  // namespace krait::formats
