// Methods of Python's str, dict, list and tuple, and of a loop. Those that would change a list or a dict are missing:
// transformers renders templates in an environment that forbids them.
#include <algorithm>
#include <array>

#include "krait/formats/chat_template_access.h"
#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

using Call = Value (*)(const Value& self, const Bound& arguments, Budget& budget);

struct Row {
  std::string_view name;
  Parameters parameters;
  Call call;
};

Value strip_method(const Value& self, const Bound& arguments, Side side) {
  if (!arguments.has_value(0)) return strip(self.text(), side);
  const std::string set = arguments.text(0, "");
  return strip(self.text(), side, set);
}

Value split_method(const Value& self, const Bound& arguments, bool from_right, Budget& budget) {
  const std::int64_t most = arguments.whole(1, -1);
  if (!arguments.has_value(0)) return Value::list(split_text(self.text(), std::nullopt, most, from_right, budget));
  return Value::list(split_text(self.text(), arguments.text(0, ""), most, from_right, budget));
}

// startswith and endswith take one text, or a tuple of which one must fit.
Value fits_method(const Value& self, const Bound& arguments, bool at_end) {
  const Value& wanted = arguments.at(0);
  const Values options = wanted.is_tuple() ? wanted.items() : Values{wanted};
  return std::ranges::any_of(options, [&](const Value& option) {
    if (!option.is_string()) refuse("a string is sought, not a {}", option.type_name());
    return at_end ? self.text().ends_with(option.text()) : self.text().starts_with(option.text());
  });
}

Value find_method(const Value& self, const Bound& arguments, bool from_right, Budget& budget) {
  const std::string part = arguments.text(0, "");
  budget.spend_text(self.text().size());
  const std::size_t found = from_right ? self.text().rfind(part) : find_text(self.text(), part, 0, budget);
  if (found == std::string::npos) return std::int64_t{-1};
  return Value::size(count_characters(std::string_view(self.text()).substr(0, found)));
}

Value count_method(const Value& self, const Bound& arguments, Budget& budget) {
  const std::string part = arguments.text(0, "");
  if (part.empty()) return Value::size(count_characters(self.text()) + 1);
  std::int64_t count = 0;
  for (std::size_t at = find_text(self.text(), part, 0, budget); at != std::string::npos; ++count) {
    at = find_text(self.text(), part, at + part.size(), budget);
  }
  return count;
}

Value partition_method(const Value& self, const Bound& arguments, bool from_right, Budget& budget) {
  const std::string part = arguments.text(0, "");
  if (part.empty()) refuse("partition needs a separator that is not empty");
  budget.spend_text(self.text().size());
  const std::string_view text = self.text();
  const std::size_t found = from_right ? text.rfind(part) : text.find(part);
  if (found == std::string_view::npos) {
    return from_right ? Value::tuple({"", "", self}) : Value::tuple({self, "", ""});
  }
  return Value::tuple({text.substr(0, found), part, text.substr(found + part.size())});
}

Value join_method(const Value& self, const Bound& arguments, Budget& budget) {
  std::string out;
  const char* separator = "";
  for (const Value& part : elements(arguments.at(0), budget)) {
    if (!part.is_string()) refuse("join needs strings, not a {}", part.type_name());
    budget.spend_text(part.text().size() + self.text().size());
    out += *separator == 0 ? "" : self.text();
    out += part.text();
    separator = ",";
  }
  return out;
}

const std::vector<Row>& string_methods() {
  static const std::vector<Row> kRows = {
      {"strip", {"chars"}, [](const Value& s, const Bound& a, Budget&) { return strip_method(s, a, Side::kBoth); }},
      {"lstrip", {"chars"}, [](const Value& s, const Bound& a, Budget&) { return strip_method(s, a, Side::kLeft); }},
      {"rstrip", {"chars"}, [](const Value& s, const Bound& a, Budget&) { return strip_method(s, a, Side::kRight); }},
      {"split",
       {"sep", "maxsplit"},
       [](const Value& s, const Bound& a, Budget& b) { return split_method(s, a, false, b); }},
      {"rsplit",
       {"sep", "maxsplit"},
       [](const Value& s, const Bound& a, Budget& b) { return split_method(s, a, true, b); }},
      {"splitlines",
       {},
       [](const Value& s, const Bound&, Budget& b) {
         b.spend(s.text().size() / 8);
         Values lines;
         for (const std::string_view line : split_lines(s.text())) lines.emplace_back(line);
         return Value::list(std::move(lines));
       }},
      {"startswith", {"prefix"}, [](const Value& s, const Bound& a, Budget&) { return fits_method(s, a, false); }},
      {"endswith", {"suffix"}, [](const Value& s, const Bound& a, Budget&) { return fits_method(s, a, true); }},
      {"replace",
       {"old", "new", "count"},
       [](const Value& s, const Bound& a, Budget& b) -> Value {
         a.at(1);
         return replace_text(s.text(), a.text(0, ""), a.text(1, ""), a.whole(2, -1), b);
       }},
      {"upper", {}, [](const Value& s, const Bound&, Budget&) -> Value { return to_upper(s.text()); }},
      {"lower", {}, [](const Value& s, const Bound&, Budget&) -> Value { return to_lower(s.text()); }},
      {"title", {}, [](const Value& s, const Bound&, Budget&) -> Value { return title_words(s.text()); }},
      {"capitalize", {}, [](const Value& s, const Bound&, Budget&) -> Value { return capitalize(s.text()); }},
      {"find", {"sub"}, [](const Value& s, const Bound& a, Budget& b) { return find_method(s, a, false, b); }},
      {"rfind", {"sub"}, [](const Value& s, const Bound& a, Budget& b) { return find_method(s, a, true, b); }},
      {"index",
       {"sub"},
       [](const Value& s, const Bound& a, Budget& b) {
         Value place = find_method(s, a, false, b);
         if (place.whole() < 0) refuse("{:.100} is not in the string", a.text(0, ""));
         return place;
       }},
      {"count", {"sub"}, count_method},
      {"partition",
       {"sep"},
       [](const Value& s, const Bound& a, Budget& b) { return partition_method(s, a, false, b); }},
      {"rpartition",
       {"sep"},
       [](const Value& s, const Bound& a, Budget& b) { return partition_method(s, a, true, b); }},
      {"join", {"iterable"}, join_method},
      {"removeprefix",
       {"prefix"},
       [](const Value& s, const Bound& a, Budget&) -> Value {
         const std::string part = a.text(0, "");
         return s.text().starts_with(part) ? s.text().substr(part.size()) : s.text();
       }},
      {"removesuffix",
       {"suffix"},
       [](const Value& s, const Bound& a, Budget&) -> Value {
         const std::string part = a.text(0, "");
         return s.text().ends_with(part) ? s.text().substr(0, s.text().size() - part.size()) : s.text();
       }},
      {"isdigit",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value { return is_all(s.text(), Character::kDigit); }},
      {"isalpha",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value { return is_all(s.text(), Character::kLetter); }},
      {"isalnum",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value { return is_all(s.text(), Character::kLetterOrDigit); }},
      {"isspace",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value { return is_all(s.text(), Character::kSpace); }},
      {"isupper",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value {
         return to_upper(s.text()) == s.text() && to_lower(s.text()) != s.text();
       }},
      {"islower",
       {},
       [](const Value& s, const Bound&, Budget&) -> Value {
         return to_lower(s.text()) == s.text() && to_upper(s.text()) != s.text();
       }},
  };
  return kRows;
}

const std::vector<Row>& dict_methods() {
  static const std::vector<Row> kRows = {
      {"items",
       {},
       [](const Value& s, const Bound&, Budget& b) {
         b.spend(s.dict().entries().size());
         Values pairs;
         for (const auto& [key, value] : s.dict().entries()) pairs.push_back(Value::tuple({key, value}));
         return Value::list(std::move(pairs));
       }},
      {"keys", {}, [](const Value& s, const Bound&, Budget& b) { return Value::list(elements(s, b)); }},
      {"values",
       {},
       [](const Value& s, const Bound&, Budget& b) {
         b.spend(s.dict().entries().size());
         Values values;
         for (const auto& [key, value] : s.dict().entries()) values.push_back(value);
         return Value::list(std::move(values));
       }},
      {"get",
       {"key", "default"},
       [](const Value& s, const Bound& a, Budget&) {
         const Value* found = s.dict().find(a.at(0));
         return found != nullptr ? *found : a.or_else(1, None{});
       }},
      {"copy", {}, [](const Value& s, const Bound&, Budget&) { return s; }},
  };
  return kRows;
}

const std::vector<Row>& list_methods() {
  static const std::vector<Row> kRows = {
      {"index",
       {"value"},
       [](const Value& s, const Bound& a, Budget& b) {
         for (std::size_t i = 0; i < s.items().size(); ++i) {
           if (equal(s.items()[i], a.at(0), b)) return Value::size(i);
         }
         refuse("{:.100} is not in the list", to_repr(a.at(0), b));
       }},
      {"count",
       {"value"},
       [](const Value& s, const Bound& a, Budget& b) -> Value {
         return Value::size(static_cast<std::size_t>(
             std::ranges::count_if(s.items(), [&](const Value& item) { return equal(item, a.at(0), b); })));
       }},
  };
  return kRows;
}

constexpr std::array<std::string_view, 2> kLoopMethods = {"cycle", "changed"};

const Row* find_row(const Value& value, std::string_view name) {
  if (!value.is_string() && !value.is_dict() && !value.is_sequence()) return nullptr;
  const auto& rows = value.is_string() ? string_methods() : value.is_dict() ? dict_methods() : list_methods();
  const auto found = std::ranges::find(rows, name, &Row::name);
  return found == rows.end() ? nullptr : &*found;
}

Value call_loop(Loop& loop, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (!arguments.named.empty()) refuse("loop.{} takes no named arguments", name);
  if (name == "cycle") {
    if (arguments.positional.empty()) refuse("loop.cycle has nothing to choose from");
    return arguments.positional[loop.index % arguments.positional.size()];
  }
  Value seen = Value::tuple(arguments.positional);
  if (loop.last_seen && equal(*loop.last_seen, seen, budget)) return false;
  loop.last_seen = std::move(seen);
  return true;
}

}  // namespace

bool has_method(const Value& value, std::string_view name) {
  if (value.as<Loop>() != nullptr) return std::ranges::find(kLoopMethods, name) != kLoopMethods.end();
  return find_row(value, name) != nullptr;
}

Value call_method(const Method& method, const Arguments& arguments, Budget& budget) {
  if (auto* loop = method.owner.as<Loop>()) return call_loop(*loop, method.name, arguments, budget);
  const Row* row = find_row(method.owner, method.name);
  if (row == nullptr) refuse("a {} has no method {}", method.owner.type_name(), method.name);
  // Every method of a text may walk all of it.
  if (method.owner.is_string()) budget.spend_text(method.owner.text().size());
  return row->call(method.owner, Bound(row->name, row->parameters, arguments), budget);
}

}  // namespace krait::formats::jinja
