// What a call in a template gives: values by place and by name, matched with the names of a function's parameters.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};

using Parameters = std::vector<std::string_view>;

// Arguments by parameter. Refuses one too many, one named twice and names that no parameter has.
class Bound {
 public:
  Bound(std::string_view function, const Parameters& parameters, const Arguments& arguments);

  bool has(std::size_t i) const { return values_[i] != nullptr; }
  const Value& at(std::size_t i) const;  // refuses where it was not given
  Value or_else(std::size_t i, Value fallback) const { return has(i) ? *values_[i] : std::move(fallback); }
  bool truth(std::size_t i, bool fallback) const { return has(i) ? values_[i]->truth() : fallback; }
  std::int64_t whole(std::size_t i, std::int64_t fallback) const;
  std::string text(std::size_t i, std::string fallback) const;
  bool has_value(std::size_t i) const { return has(i) && !values_[i]->is_none(); }

 private:
  std::string_view function_;
  const Parameters& parameters_;
  std::vector<const Value*> values_;
};

}  // namespace krait::formats::jinja
