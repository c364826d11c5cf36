// Typed access to a configuration. The parser of JSON text is in config_json.cpp; GGUF metadata is set key by key.
#include "krait/formats/config.h"

#include <cmath>
#include <limits>
#include <optional>

namespace krait::formats {
namespace {

std::string_view kind_of(const Config::Value& value) {
  static constexpr std::string_view kKinds[] = {"null",
                                                "a boolean",
                                                "an integer",
                                                "a number",
                                                "text",
                                                "an array of integers",
                                                "an array of numbers",
                                                "an array of booleans",
                                                "an array of texts"};
  return kKinds[value.index()];
}

std::optional<std::int64_t> whole(double value) {
  // 2^63 itself is a double, the largest int64 is not.
  if (!(value >= -0x1p63 && value < 0x1p63) || std::floor(value) != value) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

std::unexpected<Error> missing(std::string_view key, const std::string& origin) {
  return fail(ErrorCode::kNotFound, "[config] no key \"{}\" ({})", key, origin);
}

std::unexpected<Error> wrong_type(std::string_view key, const Config::Value& value, std::string_view wanted,
                                  const std::string& origin) {
  return fail(ErrorCode::kCorrupt, "[config] \"{}\" is {}, not {} ({})", key, kind_of(value), wanted, origin);
}

}  // namespace

const Config::Value* Config::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

bool Config::has(std::string_view key) const {
  const Value* value = find(key);
  return value != nullptr && !std::holds_alternative<std::monostate>(*value);
}

Result<std::int64_t> Config::integer(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* number = std::get_if<double>(&value)) {
    if (const auto integer = whole(*number)) return *integer;
    return fail(ErrorCode::kCorrupt, "[config] \"{}\" is {}, not an integer of 64 bits ({})", key, *number, origin_);
  }
  return wrong_type(key, value, "an integer", origin_);
}

Result<double> Config::number(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* text = std::get_if<std::string>(&value)) {
    if (*text == "Infinity") return std::numeric_limits<double>::infinity();
    if (*text == "-Infinity") return -std::numeric_limits<double>::infinity();
  }
  return wrong_type(key, value, "a number", origin_);
}

Result<bool> Config::boolean(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean;
  return wrong_type(key, value, "a boolean", origin_);
}

Result<std::string> Config::text(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return wrong_type(key, value, "text", origin_);
}

Result<std::vector<std::int64_t>> Config::integers(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&value)) return *integers;
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    std::vector<std::int64_t> result;
    for (const double number : *numbers) {
      const auto integer = whole(number);
      if (!integer) {
        return fail(ErrorCode::kCorrupt, "[config] \"{}\" holds {}, not an integer of 64 bits ({})", key, number,
                    origin_);
      }
      result.push_back(*integer);
    }
    return result;
  }
  return wrong_type(key, value, "an array of integers", origin_);
}

Result<std::vector<double>> Config::numbers(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) return *numbers;
  if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&value)) {
    return std::vector<double>(integers->begin(), integers->end());
  }
  return wrong_type(key, value, "an array of numbers", origin_);
}

Result<std::vector<std::string>> Config::texts(std::string_view key) const {
  if (!has(key)) return missing(key, origin_);
  const Value& value = *find(key);
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) return *texts;
  // An empty array has no element that would show its type; it is kept as integers.
  const auto* integers = std::get_if<std::vector<std::int64_t>>(&value);
  if (integers != nullptr && integers->empty()) return std::vector<std::string>{};
  return wrong_type(key, value, "an array of texts", origin_);
}

Result<std::int64_t> Config::integer_or(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}

Result<double> Config::number_or(std::string_view key, double fallback) const {
  return has(key) ? number(key) : fallback;
}

Result<bool> Config::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

Result<std::string> Config::text_or(std::string_view key, std::string fallback) const {
  return has(key) ? text(key) : std::move(fallback);
}

}  // namespace krait::formats
