#include "krait/formats/json_schema_scalars.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <utility>

#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using Expression = Grammar::Expression;

Expression hexadecimal_digit(Grammar& grammar) {
  return grammar.choice({grammar.bytes('0', '9'), grammar.bytes('A', 'F'), grammar.bytes('a', 'f')});
}

Expression digits(Grammar& grammar, std::size_t least, std::size_t most) {
  return grammar.repeat(grammar.bytes('0', '9'), static_cast<std::int32_t>(least), static_cast<std::int32_t>(most));
}

// What follows the beginning that `texts` (sorted, from character `at` on) have in common, such that the whole is none.
Expression except_from(Grammar& grammar, std::span<const std::u32string> texts, std::size_t at, Expression anything) {
  std::vector<Expression> alternatives;
  if (texts.empty() || texts.front().size() > at) alternatives.push_back(grammar.empty());
  CodePoints nexts;
  while (!texts.empty() && texts.front().size() == at) texts = texts.subspan(1);
  while (!texts.empty()) {
    const char32_t code = texts.front()[at];
    std::size_t same = 1;
    while (same < texts.size() && texts[same][at] == code) ++same;
    nexts.push_back({code, code});
    alternatives.push_back(grammar.sequence({grammar.characters({{code, code}}, Spelling::kJsonString),
                                             except_from(grammar, texts.first(same), at + 1, anything)}));
    texts = texts.subspan(same);
  }
  alternatives.push_back(grammar.sequence({grammar.characters(complement(nexts), Spelling::kJsonString), anything}));
  return grammar.choice(std::move(alternatives));
}

// Decimal notations without a sign between two bounds, digit by digit: a digit is *tight* to a bound while all digits
// before it were the bound's own.
class MagnitudeRange {
 public:
  MagnitudeRange(Grammar& grammar, bool is_integer, NumberBound low, NumberBound high)
      : grammar_(grammar), is_integer_(is_integer), low_(std::move(low)), high_(std::move(high)) {}

  Expression build() {
    std::vector<Expression> alternatives;
    for (std::size_t length = low_.value.whole.size(); length <= high_.value.whole.size(); ++length) {
      length_ = length;
      const Expression part = whole(0, length == low_.value.whole.size(), length == high_.value.whole.size());
      alternatives.push_back(part);
    }
    return grammar_.choice(std::move(alternatives));
  }

 private:
  // The digits of one length from position i on, and the fraction.
  Expression whole(std::size_t i, bool low_is_tight, bool high_is_tight) {
    if (i == length_) return fraction(low_is_tight, high_is_tight);
    if (i > 0 && !low_is_tight && !high_is_tight) {
      return grammar_.sequence({digits(grammar_, length_ - i, length_ - i), fraction(false, false)});
    }
    const char first = low_is_tight ? low_.value.whole[i] : (i == 0 && length_ > 1 ? '1' : '0');
    const char last = high_is_tight ? high_.value.whole[i] : '9';
    return by_digit(first, last, low_is_tight, high_is_tight,
                    [&](bool low, bool high) { return whole(i + 1, low, high); });
  }

  Expression fraction(bool low_is_tight, bool high_is_tight) {
    std::vector<Expression> alternatives;
    if (may_end(0, low_is_tight, high_is_tight)) alternatives.push_back(grammar_.empty());
    if (!is_integer_ && length_ < kFractionDigits) {
      alternatives.push_back(
          grammar_.sequence({grammar_.literal("."), next_of_fraction(0, low_is_tight, high_is_tight)}));
    }
    return grammar_.choice(std::move(alternatives));
  }

  // Whether what is written lies within the bounds when only zeros follow position i of the fraction.
  bool may_end(std::size_t i, bool low_is_tight, bool high_is_tight) const {
    const bool more_in_low = i < low_.value.fraction.size(), more_in_high = i < high_.value.fraction.size();
    return (!low_is_tight || (!more_in_low && !low_.is_exclusive)) &&
           (!high_is_tight || more_in_high || !high_.is_exclusive);
  }

  Expression next_of_fraction(std::size_t i, bool low_is_tight, bool high_is_tight) {
    const std::size_t left = kFractionDigits - length_ - i;
    if (!low_is_tight && !high_is_tight) return digits(grammar_, 1, left);
    const auto digit_of = [&](const std::string& text) { return i < text.size() ? text[i] : '0'; };
    return by_digit(low_is_tight ? digit_of(low_.value.fraction) : '0',
                    high_is_tight ? digit_of(high_.value.fraction) : '9', low_is_tight, high_is_tight,
                    [&](bool low, bool high) {
                      std::vector<Expression> alternatives;
                      if (may_end(i + 1, low, high)) alternatives.push_back(grammar_.empty());
                      if (left > 1) alternatives.push_back(next_of_fraction(i + 1, low, high));
                      return grammar_.choice(std::move(alternatives));
                    });
  }

  // A digit in first … last, and what rest(tight to low, tight to high) allows behind it.
  template <class Rest>
  Expression by_digit(char first, char last, bool low_is_tight, bool high_is_tight, const Rest& rest) {
    std::vector<Expression> alternatives;
    const auto add = [&](char from, char to, bool low, bool high) {
      if (from > to) return;
      alternatives.push_back(grammar_.sequence(
          {grammar_.bytes(static_cast<std::uint8_t>(from), static_cast<std::uint8_t>(to)), rest(low, high)}));
    };
    if (low_is_tight && high_is_tight && first == last) {
      add(first, last, true, true);
    } else {
      if (low_is_tight) add(first, std::min(first, last), true, false);
      if (first <= last) {
        add(static_cast<char>(first + (low_is_tight ? 1 : 0)), static_cast<char>(last - (high_is_tight ? 1 : 0)), false,
            false);
      }
      if (high_is_tight) add(std::max(first, last), last, false, true);
    }
    return grammar_.choice(std::move(alternatives));
  }

  Grammar& grammar_;
  bool is_integer_;
  NumberBound low_, high_;
  std::size_t length_ = 0;  // digits before the point
};

NumberBound largest() { return {{false, std::string(kWholeDigits, '9'), ""}, false}; }

}  // namespace

Expression add_json_character(Grammar& grammar) {
  const Expression hex = hexadecimal_digit(grammar);
  const Expression not_d = grammar.choice({grammar.bytes('0', '9'), grammar.bytes('A', 'C'), grammar.bytes('E', 'F'),
                                           grammar.bytes('a', 'c'), grammar.bytes('e', 'f')});
  const Expression d = grammar.choice({grammar.bytes('D', 'D'), grammar.bytes('d', 'd')});
  const Expression high = grammar.choice({grammar.bytes('8', '9'), grammar.bytes('A', 'B'), grammar.bytes('a', 'b')});
  const Expression low = grammar.choice({grammar.bytes('C', 'F'), grammar.bytes('c', 'f')});
  const Expression backslash = grammar.bytes('\\', '\\'), u = grammar.bytes('u', 'u');
  std::vector<Expression> short_escapes;
  for (const char c : std::string_view("\"\\/bfnrt")) {
    short_escapes.push_back(grammar.bytes(static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c)));
  }
  // Surrogates stand in pairs only, and a pair is one character.
  const Expression code = grammar.choice({grammar.sequence({not_d, hex, hex, hex}),
                                          grammar.sequence({d, grammar.bytes('0', '7'), hex, hex}),
                                          grammar.sequence({d, high, hex, hex, backslash, u, d, low, hex, hex})});
  short_escapes.push_back(grammar.sequence({u, code}));
  return grammar.choice({grammar.characters(complement({{0, 0x1F}, {'"', '"'}, {'\\', '\\'}}), Spelling::kPlain),
                         grammar.sequence({backslash, grammar.choice(std::move(short_escapes))})});
}

Expression add_json_string_except(Grammar& grammar, std::vector<std::string> texts) {
  std::vector<std::u32string> codes;
  for (const std::string& text : texts) {
    std::u32string& code = codes.emplace_back();
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Step step = read_utf8(text, at);
      code += step.code;
      at += step.length;
    }
  }
  std::ranges::sort(codes);
  const Expression anything =
      grammar.repeat(grammar.characters({{0, kLastCodePoint}}, Spelling::kJsonString), 0, Grammar::kUnlimited);
  const Expression quote = grammar.bytes('"', '"');
  return grammar.sequence({quote, except_from(grammar, codes, 0, anything), quote});
}

namespace {

#define KRAIT_DATE                                                                                            \
  "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))" \
  "|(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define KRAIT_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define KRAIT_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define KRAIT_OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

// RFC 3339 with the days that months have (no leap seconds); RFC 4122; RFC 5321's addresses without quotes; RFC 1123.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kFormats = {{
    {"date", KRAIT_DATE},
    {"time", KRAIT_TIME},
    {"date-time", KRAIT_DATE "T" KRAIT_TIME},
    {"uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+-]{1,30}(\\.[A-Za-z0-9_+-]{1,30})?@(" KRAIT_LABEL "\\.){1,3}[A-Za-z]{2,24}"},
    {"hostname", KRAIT_LABEL "(\\." KRAIT_LABEL "){0,2}"},
    {"ipv4", KRAIT_OCTET "(\\." KRAIT_OCTET "){3}"},
}};

#undef KRAIT_DATE
#undef KRAIT_TIME
#undef KRAIT_LABEL
#undef KRAIT_OCTET

}  // namespace

std::optional<std::string_view> regex_of_json_format(std::string_view format) {
  for (const auto& [name, regex] : kFormats) {
    if (name == format) return regex;
  }
  return std::nullopt;
}

std::string_view known_json_formats() { return "date, time, date-time, uuid, email, hostname, ipv4"; }

Result<Decimal> parse_decimal(std::string_view json) {
  const std::string_view spelled = json;
  Decimal decimal;
  if (json.starts_with('-')) {
    decimal.is_negative = true;
    json.remove_prefix(1);
  }
  int exponent = 0;
  if (const std::size_t e = json.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view digits_of = json.substr(e + 1);
    if (digits_of.starts_with('+')) digits_of.remove_prefix(1);
    std::from_chars(digits_of.data(), digits_of.data() + digits_of.size(), exponent);
    json = json.substr(0, e);
  }
  const std::size_t point = std::min(json.find('.'), json.size());
  std::string all(json.substr(0, point));
  auto place = static_cast<std::int64_t>(all.size()) + exponent;  // of the point
  if (point < json.size()) all += json.substr(point + 1);
  if (all.find_first_not_of('0') == std::string::npos) return Decimal{};
  // Numbers of more than 400 digits are no doubles.
  if (place > 400 || place < -400) {
    return fail(ErrorCode::kUnsupported, "[json schema] {} has too many digits for a bound", spelled);
  }
  if (place < 0) {
    std::string padded(static_cast<std::size_t>(-place), '0');
    padded += all;
    all = std::move(padded);
    place = 0;
  }
  if (all.size() < static_cast<std::size_t>(place)) all.resize(static_cast<std::size_t>(place), '0');
  decimal.whole = all.substr(0, static_cast<std::size_t>(place));
  decimal.fraction = all.substr(static_cast<std::size_t>(place));
  decimal.whole.erase(0, std::min(decimal.whole.find_first_not_of('0'), decimal.whole.size()));
  if (decimal.whole.empty()) decimal.whole.push_back('0');
  decimal.fraction.erase(decimal.fraction.find_last_not_of('0') + 1);
  if (decimal.whole.size() > kWholeDigits ||
      (!decimal.fraction.empty() && decimal.whole.size() + decimal.fraction.size() > kFractionDigits)) {
    return fail(ErrorCode::kUnsupported,
                "[json schema] {} has too many digits for a bound: {} before the point are enforced, or {} in all",
                spelled, kWholeDigits, kFractionDigits);
  }
  return decimal;
}

Expression add_json_number(Grammar& grammar, bool is_integer, const std::optional<NumberBound>& low,
                           const std::optional<NumberBound>& high) {
  const Expression minus = grammar.literal("-");
  if (!low && !high) {
    const std::size_t most = is_integer ? kWholeDigits : kFractionDigits;
    const Expression positive = grammar.sequence({grammar.bytes('1', '9'), digits(grammar, 0, most - 1)});
    if (is_integer)
      return grammar.choice({grammar.literal("0"), grammar.sequence({grammar.optional(minus), positive})});
    const Expression sign = grammar.choice({grammar.literal("+"), minus});
    const Expression exponent = grammar.sequence(
        {grammar.choice({grammar.literal("e"), grammar.literal("E")}), grammar.optional(sign), digits(grammar, 1, 2)});
    return grammar.sequence({grammar.optional(minus), grammar.choice({grammar.literal("0"), positive}),
                             grammar.optional(grammar.sequence({grammar.literal("."), digits(grammar, 1, most)})),
                             grammar.optional(exponent)});
  }
  const NumberBound zero{Decimal{}, false};
  std::vector<Expression> alternatives;
  // Below zero the bounds change places; -0 is not written.
  if (!low || low->value.is_negative) {
    const NumberBound nearest = high && high->value.is_negative ? *high : NumberBound{Decimal{}, true};
    alternatives.push_back(
        grammar.sequence({minus, MagnitudeRange(grammar, is_integer, nearest, low ? *low : largest()).build()}));
  }
  if (!high || !high->value.is_negative) {
    const NumberBound nearest = low && !low->value.is_negative ? *low : zero;
    alternatives.push_back(MagnitudeRange(grammar, is_integer, nearest, high ? *high : largest()).build());
  }
  return grammar.choice(std::move(alternatives));
}

}  // namespace krait::formats
