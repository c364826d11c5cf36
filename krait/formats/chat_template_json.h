// Between JSON and the values of templates: what a conversation is read from, and what `tojson` writes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

// Keys keep their order; of a doubled key the last value counts, as for Python. Integers past 64 bits become floats.
// Nesting deeper than 64 is refused. `what` names the text in errors: "messages".
Result<Value> read_json(std::string_view text, std::string_view what);

struct JsonStyle {
  std::optional<std::string> indent;  // what stands before an element, once for each level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool ensure_ascii = false;
  bool sort_keys = false;
};

// Python's json.dumps(value, …). HTML is not escaped.
std::string write_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace krait::formats::jinja
