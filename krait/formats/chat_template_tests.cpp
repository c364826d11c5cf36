// Tests (`x is string`), and the filters that apply a test or another filter to each element: map, select, reject,
// selectattr, rejectattr.
#include <algorithm>
#include <array>

#include "krait/formats/chat_template_access.h"
#include "krait/formats/chat_template_filters.h"
#include "krait/formats/chat_template_operators.h"
#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

using Check = bool (*)(const Value& value, Budget& budget);

bool is_even(const Value& value) {
  if (!value.is_whole()) refuse("a {} is neither even nor odd", value.type_name());
  return value.whole() % 2 == 0;
}

bool has_elements(const Value& v) { return v.is_undefined() || v.is_string() || v.is_sequence() || v.is_dict(); }

struct Test {
  std::string_view name;
  Check check;
};

const std::array<Test, 19> kTests = {{
    {"defined", [](const Value& v, Budget&) { return !v.is_undefined(); }},
    {"undefined", [](const Value& v, Budget&) { return v.is_undefined(); }},
    {"none", [](const Value& v, Budget&) { return v.is_none(); }},
    {"boolean", [](const Value& v, Budget&) { return v.is_boolean(); }},
    {"true", [](const Value& v, Budget&) { return v.is_boolean() && v.truth(); }},
    {"false", [](const Value& v, Budget&) { return v.is_boolean() && !v.truth(); }},
    {"integer", [](const Value& v, Budget&) { return v.is_integer(); }},
    {"float", [](const Value& v, Budget&) { return v.is_float(); }},
    {"number", [](const Value& v, Budget&) { return v.is_number(); }},
    {"string", [](const Value& v, Budget&) { return v.is_string(); }},
    {"mapping", [](const Value& v, Budget&) { return v.is_dict(); }},
    // Jinja asks for a length and for access by place, which its undefined values have as well.
    {"sequence", [](const Value& v, Budget&) { return has_elements(v); }},
    {"iterable", [](const Value& v, Budget&) { return has_elements(v); }},
    {"callable", [](const Value& v, Budget&) { return v.is_object() && v.as<Namespace>() == nullptr; }},
    {"even", [](const Value& v, Budget&) { return is_even(v); }},
    {"odd", [](const Value& v, Budget&) { return !is_even(v); }},
    {"escaped", [](const Value&, Budget&) { return false; }},
    {"lower",
     [](const Value& v, Budget& b) {
       const std::string text = to_text(v, b);
       return to_lower(text) == text && to_upper(text) != text;
     }},
    {"upper",
     [](const Value& v, Budget& b) {
       const std::string text = to_text(v, b);
       return to_upper(text) == text && to_lower(text) != text;
     }},
}};

struct Comparison {
  std::string_view name;
  std::string_view sign;
};

constexpr std::array<Comparison, 16> kComparisons = {{{"eq", "=="},
                                                      {"equalto", "=="},
                                                      {"ne", "!="},
                                                      {"lt", "<"},
                                                      {"lessthan", "<"},
                                                      {"le", "<="},
                                                      {"gt", ">"},
                                                      {"greaterthan", ">"},
                                                      {"ge", ">="},
                                                      {"in", "in"},
                                                      {"==", "=="},
                                                      {"!=", "!="},
                                                      {"<", "<"},
                                                      {"<=", "<="},
                                                      {">", ">"},
                                                      {">=", ">="}}};

constexpr std::array<std::string_view, 5> kSelections = {"map", "select", "reject", "selectattr", "rejectattr"};

// Python's `is`: one object. Values are told apart by kind and content here.
bool is_same(const Value& a, const Value& b, Budget& budget) {
  return a.type_name() == b.type_name() && equal(a, b, budget);
}

Value select(const Value& input, const Arguments& arguments, bool wanted, bool by_attribute, Budget& budget) {
  const std::string_view who = by_attribute ? "selectattr" : "select";
  if (!arguments.named.empty()) refuse("{} takes no named arguments", who);
  Values rest = arguments.positional;
  Value path;
  if (by_attribute) {
    if (rest.empty()) refuse("{} needs an attribute", who);
    path = rest.front();
    rest.erase(rest.begin());
  }
  std::string test;
  if (!rest.empty()) {
    if (!rest.front().is_string()) refuse("{} needs the name of a test, not a {}", who, rest.front().type_name());
    test = rest.front().text();
    rest.erase(rest.begin());
  }
  const Arguments test_arguments{std::move(rest), {}};
  Values kept;
  for (Value& value : elements(input, budget)) {
    const Value tested = by_attribute ? attribute_path(value, path, budget) : value;
    const bool fits = test.empty() ? tested.truth() : apply_test(test, tested, test_arguments, budget);
    if (fits == wanted) kept.push_back(std::move(value));
  }
  return Value::list(std::move(kept));
}

Value map(const Value& input, const Arguments& arguments, Budget& budget) {
  Values changed;
  if (arguments.positional.empty()) {
    static const Parameters kParameters = {"attribute", "default"};
    const Bound bound("map", kParameters, arguments);
    for (const Value& value : elements(input, budget)) {
      Value found = attribute_path(value, bound.at(0), budget);
      changed.push_back(found.is_undefined() ? bound.or_else(1, std::move(found)) : std::move(found));
    }
  } else {
    const Value& name = arguments.positional.front();
    if (!name.is_string()) refuse("map needs the name of a filter, not a {}", name.type_name());
    const Arguments rest{Values(arguments.positional.begin() + 1, arguments.positional.end()), arguments.named};
    for (const Value& value : elements(input, budget)) {
      changed.push_back(apply_filter(name.text(), value, rest, budget));
    }
  }
  return Value::list(std::move(changed));
}

}  // namespace

std::optional<Value> apply_selection(std::string_view name, const Value& input, const Arguments& arguments,
                                     Budget& budget) {
  if (std::ranges::find(kSelections, name) == kSelections.end()) return std::nullopt;
  // Whatever is false has no elements here, None as well.
  if (!input.truth()) return Value::list({});
  if (name == "map") return map(input, arguments, budget);
  if (name == "select") return select(input, arguments, true, false, budget);
  if (name == "reject") return select(input, arguments, false, false, budget);
  if (name == "selectattr") return select(input, arguments, true, true, budget);
  return select(input, arguments, false, true, budget);
}

bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget) {
  budget.spend(1);
  if (const auto found = std::ranges::find(kTests, name, &Test::name); found != kTests.end()) {
    static const Parameters kNone;
    (void)Bound(name, kNone, arguments);
    return found->check(value, budget);
  }
  static const Parameters kOther = {"other"};
  const Bound bound(name, kOther, arguments);
  if (const auto found = std::ranges::find(kComparisons, name, &Comparison::name); found != kComparisons.end()) {
    return apply_comparison(found->sign, value, bound.at(0), budget);
  }
  if (name == "sameas") return is_same(value, bound.at(0), budget);
  if (name == "divisibleby") {
    const Value rest = apply_binary("%", value, bound.at(0), budget);
    return rest.is_number() && rest.number() == 0;
  }
  throw Failure{ErrorCode::kUnsupported, fmt::format("the test \"{}\" is not supported", name)};
}

}  // namespace krait::formats::jinja
