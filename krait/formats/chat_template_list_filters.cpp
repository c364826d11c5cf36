// Filters that go through the elements of a value: choosing, changing, ordering and joining them.
#include <algorithm>
#include <list>

#include "krait/formats/chat_template_access.h"
#include "krait/formats/chat_template_filters.h"
#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

// What an element is compared by: an attribute of it where one is named, and small letters unless case matters.
Value comparison_key(const Value& value, const Value& path, bool case_sensitive, Budget& budget) {
  Value key = path.is_none() ? value : attribute_path(value, path, budget);
  if (case_sensitive || !key.is_string()) return key;
  budget.spend_text(key.text().size());
  return to_lower(key.text());
}

using Keyed = std::pair<Value, Value>;  // key and element

std::list<Keyed> with_keys(const Value& input, const Value& path, bool case_sensitive, Budget& budget) {
  std::list<Keyed> keyed;
  for (Value& value : elements(input, budget)) {
    Value key = comparison_key(value, path, case_sensitive, budget);
    keyed.emplace_back(std::move(key), std::move(value));
  }
  return keyed;
}

// Equal elements keep their order, also where the order is turned round. A list sorts itself by merging, which takes no
// harm from values that are neither less nor greater nor equal, such as NaN.
void order(std::list<Keyed>& keyed, bool reversed, Budget& budget) {
  keyed.sort([&](const Keyed& a, const Keyed& b) {
    return compare(reversed ? b.first : a.first, reversed ? a.first : b.first, budget) < 0;
  });
}

Value values_of(std::list<Keyed> keyed) {
  Values values;
  for (Keyed& pair : keyed) values.push_back(std::move(pair.second));
  return Value::list(std::move(values));
}

Value sort(const Value& input, const Bound& arguments, Budget& budget) {
  auto keyed = with_keys(input, arguments.or_else(2, None{}), arguments.truth(1, false), budget);
  order(keyed, arguments.truth(0, false), budget);
  return values_of(std::move(keyed));
}

Value dict_sort(const Value& input, const Bound& arguments, Budget& budget) {
  if (!input.is_dict()) refuse("dictsort: a {} is no dict", input.type_name());
  const std::string by = arguments.text(1, "key");
  if (by != "key" && by != "value") refuse("dictsort: {} is neither key nor value", quote(by));
  std::list<Keyed> keyed;
  budget.spend(input.dict().entries().size());
  for (const auto& [key, value] : input.dict().entries()) {
    keyed.emplace_back(comparison_key(by == "key" ? key : value, None{}, arguments.truth(0, false), budget),
                       Value::tuple({key, value}));
  }
  order(keyed, arguments.truth(2, false), budget);
  return values_of(std::move(keyed));
}

Value unique(const Value& input, const Bound& arguments, Budget& budget) {
  Values kept;
  Values seen;
  for (Keyed& pair : with_keys(input, arguments.or_else(1, None{}), arguments.truth(0, false), budget)) {
    if (std::ranges::any_of(seen, [&](const Value& key) { return equal(key, pair.first, budget); })) continue;
    seen.push_back(std::move(pair.first));
    kept.push_back(std::move(pair.second));
  }
  return Value::list(std::move(kept));
}

Value extreme(const Value& input, const Bound& arguments, bool largest, Budget& budget) {
  auto keyed = with_keys(input, arguments.or_else(1, None{}), arguments.truth(0, false), budget);
  if (keyed.empty()) return Undefined{"there is no element"};
  auto best = keyed.begin();
  for (auto it = keyed.begin(); it != keyed.end(); ++it) {
    const int sign = compare(it->first, best->first, budget);
    if (largest ? sign > 0 : sign < 0) best = it;
  }
  return std::move(best->second);
}

Value join(const Value& input, const Bound& arguments, Budget& budget) {
  const std::string separator = arguments.has(0) ? to_text(arguments.at(0), budget) : "";
  const Value path = arguments.or_else(1, None{});
  std::string out;
  bool is_first = true;
  for (const Value& value : elements(input, budget)) {
    if (!is_first) {
      budget.spend_text(separator.size());
      out += separator;
    }
    out += to_text(path.is_none() ? value : attribute_path(value, path, budget), budget);
    is_first = false;
  }
  return out;
}

Value first_or_last(const Value& input, bool first, Budget& budget) {
  if (input.is_sequence()) {
    if (input.items().empty()) return Undefined{"an empty list has no elements"};
    return first ? input.items().front() : input.items().back();
  }
  Values all = elements(input, budget);
  if (all.empty()) return Undefined{fmt::format("an empty {} has no elements", input.type_name())};
  return std::move(first ? all.front() : all.back());
}

Value reverse(const Value& input, Budget& budget) {
  Values all = elements(input, budget);
  std::ranges::reverse(all);
  if (!input.is_string()) return Value::list(std::move(all));
  std::string text;
  for (const Value& character : all) text += character.text();
  return text;
}

Value sum(const Value& input, const Bound& arguments, Budget& budget) {
  const Value path = arguments.or_else(0, None{});
  Value total = arguments.or_else(1, std::int64_t{0});
  for (const Value& value : elements(input, budget)) {
    const Value part = path.is_none() ? value : attribute_path(value, path, budget);
    if (!part.is_number() || !total.is_number()) refuse("sum: a {} is no number", part.type_name());
    total = total.is_float() || part.is_float() ? Value(total.number() + part.number())
                                                : Value(total.whole() + part.whole());
  }
  return total;
}

Value items(const Value& input, Budget& budget) {
  if (input.is_undefined()) return Value::list({});
  if (!input.is_dict()) refuse("items: a {} is no dict", input.type_name());
  return call_method(Method(input, "items"), {}, budget);
}

}  // namespace

const std::vector<Filter>& list_filters() {
  static const std::vector<Filter> kFilters = {
      {"join", {"d", "attribute"}, join},
      {"sort", {"reverse", "case_sensitive", "attribute"}, sort},
      {"dictsort", {"case_sensitive", "by", "reverse"}, dict_sort},
      {"unique", {"case_sensitive", "attribute"}, unique},
      {"sum", {"attribute", "start"}, sum},
      {"min",
       {"case_sensitive", "attribute"},
       [](const Value& v, const Bound& a, Budget& b) { return extreme(v, a, false, b); }},
      {"max",
       {"case_sensitive", "attribute"},
       [](const Value& v, const Bound& a, Budget& b) { return extreme(v, a, true, b); }},
      {"first", {}, [](const Value& v, const Bound&, Budget& b) { return first_or_last(v, true, b); }},
      {"last", {}, [](const Value& v, const Bound&, Budget& b) { return first_or_last(v, false, b); }},
      {"list", {}, [](const Value& v, const Bound&, Budget& b) { return Value::list(elements(v, b)); }},
      {"reverse", {}, [](const Value& v, const Bound&, Budget& b) { return reverse(v, b); }},
      {"items", {}, [](const Value& v, const Bound&, Budget& b) { return items(v, b); }},
  };
  return kFilters;
}

}  // namespace krait::formats::jinja
