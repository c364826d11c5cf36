// The filters (`x | trim`) and tests (`x is string`) of Jinja that templates of conversations use.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "krait/formats/chat_template_arguments.h"
#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

// Each refuses a name that it does not know.
Value apply_filter(std::string_view name, const Value& input, const Arguments& arguments, Budget& budget);
bool apply_test(std::string_view name, const Value& value, const Arguments& arguments, Budget& budget);

// map, select, reject, selectattr and rejectattr, which apply another filter or a test; none for other names.
std::optional<Value> apply_selection(std::string_view name, const Value& input, const Arguments& arguments,
                                     Budget& budget);

// A row of the tables below: filters of one value, and those that go through the elements of one.
struct Filter {
  std::string_view name;
  Parameters parameters;
  Value (*apply)(const Value& input, const Bound& arguments, Budget& budget);
};
const std::vector<Filter>& value_filters();
const std::vector<Filter>& list_filters();

}  // namespace krait::formats::jinja
