#include "krait/formats/chat_template_arguments.h"

#include <algorithm>

namespace krait::formats::jinja {

Bound::Bound(std::string_view function, const Parameters& parameters, const Arguments& arguments)
    : function_(function), parameters_(parameters), values_(parameters.size()) {
  if (arguments.positional.size() > parameters.size()) {
    refuse("{} takes {} arguments, not {}", function, parameters.size(), arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::ranges::find(parameters, name);
    if (found == parameters.end()) refuse("{} has no parameter \"{}\"", function, name);
    const Value*& place = values_[static_cast<std::size_t>(found - parameters.begin())];
    if (place != nullptr) refuse("{} is given \"{}\" twice", function, name);
    place = &value;
  }
}

const Value& Bound::at(std::size_t i) const {
  if (!has(i)) refuse("{} needs \"{}\"", function_, parameters_[i]);
  return *values_[i];
}

std::int64_t Bound::whole(std::size_t i, std::int64_t fallback) const {
  if (!has_value(i)) return fallback;
  if (!values_[i]->is_whole()) {
    refuse("\"{}\" of {} is a {}, not an integer", parameters_[i], function_, values_[i]->type_name());
  }
  return values_[i]->whole();
}

std::string Bound::text(std::size_t i, std::string fallback) const {
  if (!has_value(i)) return fallback;
  if (!values_[i]->is_string()) {
    refuse("\"{}\" of {} is a {}, not a string", parameters_[i], function_, values_[i]->type_name());
  }
  return values_[i]->text();
}

}  // namespace krait::formats::jinja
