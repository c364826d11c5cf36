// Named numbers that tasks and objectives are made from: those given, checked against what there is, and the rest as
// they are unless given.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

inline std::string joined_names(const std::vector<std::string_view>& all) {
  std::string names;
  for (const std::string_view one : all) {
    if (!names.empty()) names += ", ";
    names += one;
  }
  return names;
}

// `room` ("task") begins the message, `owner` is what has the parameters. A parameter has name, value, low, high,
// whole and meaning.
template <class Number, class Parameter>
Result<std::map<std::string, Number, std::less<>>> complete_values(
    std::string_view room, std::string_view owner, const std::vector<Parameter>& parameters,
    const std::map<std::string, Number, std::less<>>& given) {
  std::map<std::string, Number, std::less<>> all;
  std::vector<std::string_view> names;
  for (const Parameter& parameter : parameters) {
    names.push_back(parameter.name);
    const auto found = given.find(parameter.name);
    const Number value = found == given.end() ? parameter.value : found->second;
    // Written so that no bounds hold a number that is none.
    if (!(value >= parameter.low && value <= parameter.high)) {
      return fail(ErrorCode::kInvalidArgument, "[{}] {} of {} ({}) is {}, not from {} to {}", room, parameter.name,
                  owner, parameter.meaning, value, parameter.low, parameter.high);
    }
    if (parameter.whole && value != std::floor(value)) {
      return fail(ErrorCode::kInvalidArgument, "[{}] {} of {} ({}) is {}, no whole number", room, parameter.name, owner,
                  parameter.meaning, value);
    }
    all.emplace(parameter.name, value);
  }
  for (const auto& [key, value] : given) {
    if (all.contains(key)) continue;
    return fail(ErrorCode::kInvalidArgument, "[{}] {} has no parameter '{}'; it has {}", room, owner, key,
                names.empty() ? "none" : joined_names(names));
  }
  return all;
}

// The kind of this name among pointers to kinds.
template <class Kinds>
auto find_kind(std::string_view room, const Kinds& kinds, std::string_view name)
    -> Result<std::remove_cvref_t<decltype(kinds[0])>> {
  std::vector<std::string_view> names;
  for (const auto* kind : kinds) {
    if (kind->name == name) return kind;
    names.push_back(kind->name);
  }
  return fail(ErrorCode::kInvalidArgument, "[{}] there is no {} '{}'; there are {}", room, room, name,
              joined_names(names));
}

}  // namespace krait::train
