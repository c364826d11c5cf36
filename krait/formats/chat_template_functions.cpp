// The functions that transformers and Jinja give to every template.
#include <algorithm>
#include <array>
#include <limits>

#include "krait/formats/chat_template_interpreter.h"

namespace krait::formats::jinja {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"range", "namespace", "dict", "raise_exception", "strftime_now"};

Value range(const Arguments& arguments, Budget& budget) {
  if (!arguments.named.empty()) refuse("range takes no named arguments");
  std::vector<std::int64_t> numbers;
  for (const Value& value : arguments.positional) {
    if (value.is_undefined()) refuse("{}", value.undefined());
    if (!value.is_whole()) refuse("range needs integers, not a {}", value.type_name());
    numbers.push_back(value.whole());
  }
  if (numbers.empty() || numbers.size() > 3) refuse("range takes 1 to 3 arguments, not {}", numbers.size());
  const std::int64_t start = numbers.size() == 1 ? 0 : numbers[0];
  const std::int64_t stop = numbers.size() == 1 ? numbers[0] : numbers[1];
  const std::int64_t step = numbers.size() == 3 ? numbers[2] : 1;
  if (step == 0) refuse("the step of range is 0");
  Values values;
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    budget.spend(1);
    values.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return Value::list(std::move(values));
}

// From a dict, where one is given, and named arguments.
Dict dict_of(std::string_view name, const Arguments& arguments) {
  Dict dict;
  if (arguments.positional.size() > 1) refuse("{} takes one dict, not {} values", name, arguments.positional.size());
  if (!arguments.positional.empty()) {
    const Value& given = arguments.positional.front();
    if (!given.is_dict()) refuse("{} takes a dict, not a {}", name, given.type_name());
    dict = given.dict();
  }
  for (const auto& [key, value] : arguments.named) dict.set(key, value);
  return dict;
}

Value make_namespace(const Arguments& arguments) {
  auto space = std::make_shared<Namespace>();
  const Dict given = dict_of("namespace", arguments);
  for (const auto& [key, value] : given.entries()) {
    if (!key.is_string()) refuse("namespace: a {} is no name", key.type_name());
    space->values.insert_or_assign(key.text(), value);
  }
  return space;
}

Value format_now(const Arguments& arguments, std::optional<std::time_t> now) {
  static const Parameters kParameters = {"format"};
  const Bound bound("strftime_now", kParameters, arguments);
  bound.at(0);
  // One character more, since an empty result and a full buffer look the same.
  const std::string format = bound.text(0, "") + " ";
  constexpr std::size_t kLongest = 4096;
  if (format.size() > kLongest / 16) refuse("strftime_now: a format of {} bytes is too long", format.size());
  const std::time_t time = now.value_or(std::time(nullptr));
  std::tm parts{};
  localtime_r(&time, &parts);
  std::array<char, kLongest> buffer;
  std::size_t size = std::strftime(buffer.data(), buffer.size(), format.c_str(), &parts);
  if (size == 0) refuse("strftime_now: the date is longer than {} bytes", kLongest);
  return std::string_view(buffer.data(), size - 1);
}

}  // namespace

bool has_function(std::string_view name) { return std::ranges::find(kNames, name) != kNames.end(); }

Value call_function(std::string_view name, const Arguments& arguments, std::optional<std::time_t> now, Budget& budget) {
  if (name == "range") return range(arguments, budget);
  if (name == "namespace") return make_namespace(arguments);
  if (name == "dict") return dict_of(name, arguments);
  if (name == "strftime_now") return format_now(arguments, now);
  static const Parameters kParameters = {"message"};
  const Bound bound(name, kParameters, arguments);
  refuse("the template refuses the conversation: {}", to_text(bound.at(0), budget));
}

}  // namespace krait::formats::jinja
