// Finding a filter by name; and those that work on one value: its text, its number, its JSON.
#include "krait/formats/chat_template_filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "krait/formats/chat_template_access.h"
#include "krait/formats/chat_template_json.h"
#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

// An indent is given as text, or as a number of blanks.
std::string blanks_of(std::string_view filter, const Bound& arguments, std::size_t i, std::int64_t fallback,
                      Budget& budget) {
  constexpr std::int64_t kWidest = 1000;
  if (arguments.has(i) && arguments.at(i).is_string()) return to_text(arguments.at(i), budget);
  const std::int64_t width = arguments.whole(i, fallback);
  if (width > kWidest) refuse("{}: an indent of {} is wider than {}", filter, width, kWidest);
  std::string blanks;
  blanks.assign(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
  return blanks;
}

Value to_json(const Value& input, const Bound& arguments, Budget& budget) {
  // The parameters and their order are transformers', not Jinja's own.
  JsonStyle style;
  style.ensure_ascii = arguments.truth(0, false);
  if (arguments.has_value(1)) {
    style.indent = blanks_of("tojson", arguments, 1, 0, budget);
    style.item_separator.resize(1);
  }
  if (arguments.has_value(2)) {
    const Value& separators = arguments.at(2);
    if (!separators.is_sequence() || separators.items().size() != 2) refuse("tojson: separators are two strings");
    style.item_separator = to_text(separators.items()[0], budget);
    style.key_separator = to_text(separators.items()[1], budget);
  }
  style.sort_keys = arguments.truth(3, false);
  return write_json(input, style, budget);
}

// Python's int(text) and float(text): blanks round it, and underscores between digits.
template <class Number>
bool read_number(std::string_view spelled, Number& number) {
  std::string text(strip(spelled, Side::kBoth));
  std::erase(text, '_');
  const char* end = text.data() + text.size();
  const auto read = std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, number);
  return !text.empty() && read.ec == std::errc{} && read.ptr == end;
}

Value to_integer(const Value& input, const Bound& arguments, Budget&) {
  const Value fallback = arguments.or_else(0, std::int64_t{0});
  if (arguments.whole(1, 10) != 10) refuse("int: only numbers of base 10 are supported");
  if (input.is_whole()) return input.whole();
  double number = 0;
  if (input.is_string()) {
    std::int64_t whole = 0;
    if (read_number(input.text(), whole)) return whole;
    if (!read_number(input.text(), number)) return fallback;
  } else if (input.is_float()) {
    number = input.number();
  } else {
    return fallback;
  }
  if (!(std::abs(number) < 0x1p63)) return fallback;
  return static_cast<std::int64_t>(number);
}

Value to_float(const Value& input, const Bound& arguments, Budget&) {
  if (input.is_number()) return input.number();
  double number = 0;
  if (input.is_string() && read_number(input.text(), number)) return number;
  return arguments.or_else(0, 0.0);
}

Value round_number(const Value& input, const Bound& arguments, Budget&) {
  if (!input.is_number()) refuse("round: a {} is no number", input.type_name());
  const std::int64_t precision = arguments.whole(0, 0);
  const std::string method = arguments.text(1, "common");
  if (std::abs(precision) > 300) refuse("round: a precision of {} is outside -300 to 300", precision);
  const double number = input.number();
  if (!std::isfinite(number)) return number;
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return std::ceil(number * scale) / scale;
  if (method == "floor") return std::floor(number * scale) / scale;
  if (method != "common") refuse("round: the method {} is none of common, ceil, floor", quote(method));
  if (input.is_whole() && precision >= 0) return input.whole();
  if (precision <= 0) return std::nearbyint(number * scale) / scale;
  // The nearest decimal of the exact binary value, as Python's round has it.
  double rounded = 0;
  read_number(fmt::format("{:.{}f}", number, static_cast<int>(precision)), rounded);
  return rounded;
}

Value indent(const Value& input, const Bound& arguments, Budget& budget) {
  const std::string blanks = blanks_of("indent", arguments, 0, 4, budget);
  const bool blank_too = arguments.truth(2, false);
  const std::string text = to_text(input, budget) + "\n";
  std::string out;
  if (arguments.truth(1, false)) out = blanks;
  bool is_first = true;
  for (const std::string_view line : split_lines(text)) {
    budget.spend_text(line.size() + blanks.size());
    if (!is_first) out += '\n';
    if (!is_first && (blank_too || !line.empty())) out += blanks;
    out += line;
    is_first = false;
  }
  return out;
}

Value escape(const Value& input, const Bound&, Budget& budget) {
  std::string out;
  for (const char c : to_text(input, budget)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  budget.spend_text(out.size());
  return out;
}

Value absolute(const Value& input, const Bound&, Budget&) {
  if (!input.is_number()) refuse("abs: a {} is no number", input.type_name());
  if (input.is_float()) return std::abs(input.number());
  if (input.whole() == std::numeric_limits<std::int64_t>::min()) refuse("abs: a number has more than 64 bits");
  return std::abs(input.whole());
}

Value word_count(const Value& input, const Bound&, Budget& budget) {
  std::int64_t count = 0;
  const std::string text = to_text(input, budget);
  bool in_word = false;
  for (const std::string_view character : characters(text)) {
    const bool is_word = is_all(character, Character::kLetterOrDigit) || character == "_";
    if (is_word && !in_word) ++count;
    in_word = is_word;
  }
  return count;
}

}  // namespace

const std::vector<Filter>& value_filters() {
  static const std::vector<Filter> kFilters = {
      {"tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, to_json},
      {"int", {"default", "base"}, to_integer},
      {"float", {"default"}, to_float},
      {"round", {"precision", "method"}, round_number},
      {"abs", {}, absolute},
      {"indent", {"width", "first", "blank"}, indent},
      {"e", {}, escape},
      {"escape", {}, escape},
      {"wordcount", {}, word_count},
      {"string", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return to_text(v, b); }},
      {"safe", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return to_text(v, b); }},
      {"upper", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return to_upper(to_text(v, b)); }},
      {"lower", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return to_lower(to_text(v, b)); }},
      {"title", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return title_filter(to_text(v, b)); }},
      {"capitalize", {}, [](const Value& v, const Bound&, Budget& b) -> Value { return capitalize(to_text(v, b)); }},
      {"trim",
       {"chars"},
       [](const Value& v, const Bound& a, Budget& b) -> Value {
         const std::string text = to_text(v, b);
         if (!a.has_value(0)) return strip(text, Side::kBoth);
         return strip(text, Side::kBoth, a.text(0, ""));
       }},
      {"replace",
       {"old", "new", "count"},
       [](const Value& v, const Bound& a, Budget& b) -> Value {
         const std::string text = to_text(v, b);
         return replace_text(text, to_text(a.at(0), b), to_text(a.at(1), b), a.whole(2, -1), b);
       }},
      {"default",
       {"default_value", "boolean"},
       [](const Value& v, const Bound& a, Budget&) {
         return v.is_undefined() || (a.truth(1, false) && !v.truth()) ? a.or_else(0, "") : v;
       }},
      {"length", {}, [](const Value& v, const Bound&, Budget& b) { return Value::size(length(v, b)); }},
      {"attr",
       {"name"},
       [](const Value& v, const Bound& a, Budget&) -> Value {
         // Attributes alone, so a key of a dict is none.
         if (v.is_dict() && !has_method(v, a.text(0, ""))) return Undefined{"a dict has no such attribute"};
         return attribute(v, a.text(0, ""));
       }},
  };
  return kFilters;
}

Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments, Budget& budget) {
  if (name == "d") name = "default";
  if (name == "count") name = "length";
  budget.spend(1);
  if (auto selected = apply_selection(name, input, arguments, budget)) return *std::move(selected);
  for (const auto* filters : {&value_filters(), &list_filters()}) {
    const auto found = std::ranges::find(*filters, name, &Filter::name);
    if (found == filters->end()) continue;
    return found->apply(input, Bound(name, found->parameters, arguments), budget);
  }
  throw Failure{ErrorCode::kUnsupported, fmt::format("the filter \"{}\" is not supported", name)};
}

}  // namespace krait::formats::jinja
