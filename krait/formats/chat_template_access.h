// Attributes, items, slices and methods of values: `message.role`, `message['role']`, `messages[1:]`, `text.strip()`.
// An attribute of a dict is a method where dicts have one of that name, else the key; an item is the key first.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "krait/formats/chat_template_arguments.h"
#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

// namespace(): the one value that can be written to.
struct Namespace : Object {
  std::unordered_map<std::string, Value> values;
  std::string_view type_name() const override { return "namespace"; }
};

// A method that is not called yet.
struct Method : Object {
  Method(Value the_owner, std::string the_name) : owner(std::move(the_owner)), name(std::move(the_name)) {}
  Value owner;
  std::string name;
  std::string_view type_name() const override { return "method"; }
};

// The variable `loop`.
struct Loop : Object {
  std::shared_ptr<const Values> items;
  std::size_t index = 0;  // from 0
  std::size_t depth = 1;
  std::optional<Value> last_seen;  // of changed()
  std::string_view type_name() const override { return "loop"; }
  Value attribute(std::string_view name) const;
};

Value attribute(const Value& value, const std::string& name);
Value item(const Value& value, const Value& key, Budget& budget);
// value[from:to:step]; none where left out.
Value slice(const Value& value, const Value& from, const Value& to, const Value& step, Budget& budget);
// "function.name" or "0" from each, as the filters map and selectattr have it.
Value attribute_path(const Value& value, const Value& path, Budget& budget);

bool has_method(const Value& value, std::string_view name);
Value call_method(const Method& method, const Arguments& arguments, Budget& budget);

}  // namespace krait::formats::jinja
