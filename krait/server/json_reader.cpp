#include "krait/server/json_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <deque>
#include <nlohmann/json.hpp>

namespace krait::server {

using Json = nlohmann::ordered_json;

struct JsonReader::Document {
  Json root;
  std::deque<Json> wrapped;  // elements that were given a name
  std::optional<ApiError> error;
};

namespace {

const Json& json_at(const void* value) { return *static_cast<const Json*>(value); }

const Json* member_of(const void* value, std::string_view name) {
  const Json& object = json_at(value);
  const auto found = object.find(std::string(name));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

JsonReader::Kind kind_of(const Json* value) {
  using Kind = JsonReader::Kind;
  if (value == nullptr || value->is_null()) return Kind::absent;
  if (value->is_boolean()) return Kind::boolean;
  if (value->is_number()) return Kind::number;
  if (value->is_string()) return Kind::text;
  return value->is_array() ? Kind::array : Kind::object;
}

// A number without a fraction that fits; JSON writes 5 and 5.0 for the same.
std::optional<std::int64_t> whole(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<std::int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (std::trunc(number) != number || std::fabs(number) >= 0x1p53) return std::nullopt;
  return static_cast<std::int64_t>(number);
}

}  // namespace

ApiResult<JsonReader> JsonReader::parse(std::string_view text) {
  auto document = std::make_shared<Document>();
  bool too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kDepth;
    return !too_deep;
  };
  try {
    document->root = Json::parse(text, watch);
  } catch (const Json::exception& error) {  // no JSON, or a number that no double holds
    return std::unexpected(
        ApiError{.message = fmt::format("the body is no JSON: {}", error.what()), .code = "malformed_json"});
  }
  if (too_deep) {
    return std::unexpected(
        ApiError{.message = fmt::format("the body is nested deeper than {} levels", kDepth), .code = "malformed_json"});
  }
  if (!document->root.is_object()) {
    return std::unexpected(ApiError{.message = "the body is no JSON object", .code = "malformed_json"});
  }
  const void* root = &document->root;
  return JsonReader(std::move(document), root, "");
}

std::string JsonReader::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

bool JsonReader::has(std::string_view name) const { return member_of(value_, name) != nullptr; }

void JsonReader::complain(std::string_view name, std::string message, std::string code) {
  if (document_->error) return;
  const std::string path = name.empty() ? path_ : path_of(name);
  document_->error = ApiError{.message = path + ": " + message, .param = path, .code = std::move(code)};
}

const std::optional<ApiError>& JsonReader::error() const { return document_->error; }

std::optional<std::string> JsonReader::text(std::string_view name) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  complain(name, fmt::format("must be a string, not {}", value->type_name()));
  return std::nullopt;
}

std::optional<bool> JsonReader::boolean(std::string_view name) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  complain(name, fmt::format("must be true or false, not {}", value->type_name()));
  return std::nullopt;
}

std::optional<double> JsonReader::number(std::string_view name, double least, double most) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    complain(name, fmt::format("must be a number, not {}", value->type_name()));
    return std::nullopt;
  }
  const double number = value->get<double>();
  if (number >= least && number <= most) return number;
  complain(name, fmt::format("must be from {} to {}, not {}", least, most, number));
  return std::nullopt;
}

std::optional<std::int64_t> JsonReader::integer(std::string_view name, std::int64_t least, std::int64_t most) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  const auto number = whole(*value);
  if (!number) {
    complain(name, fmt::format("must be an integer, not {}", value->is_number() ? value->dump() : value->type_name()));
    return std::nullopt;
  }
  if (*number >= least && *number <= most) return number;
  complain(name, fmt::format("must be from {} to {}, not {}", least, most, *number));
  return std::nullopt;
}

std::optional<JsonReader> JsonReader::object(std::string_view name) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) return JsonReader(document_, value, path_of(name));
  complain(name, fmt::format("must be an object, not {}", value->type_name()));
  return std::nullopt;
}

std::vector<JsonReader> JsonReader::objects(std::string_view name) {
  std::vector<JsonReader> out;
  const Json* value = member_of(value_, name);
  if (value == nullptr) return out;
  if (!value->is_array()) {
    complain(name, fmt::format("must be an array, not {}", value->type_name()));
    return out;
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Json& element = (*value)[i];
    const std::string path = fmt::format("{}[{}]", path_of(name), i);
    JsonReader reader(document_, &element, path);
    if (!element.is_object()) {
      reader.complain("", fmt::format("must be an object, not {}", element.type_name()));
      return {};
    }
    out.push_back(std::move(reader));
  }
  return out;
}

std::vector<JsonReader> JsonReader::arrays(std::string_view name) {
  std::vector<JsonReader> out;
  const Json* value = member_of(value_, name);
  if (value == nullptr || !value->is_array()) return out;
  for (std::size_t i = 0; i < value->size(); ++i) {
    document_->wrapped.push_back({{"items", (*value)[i]}});
    out.push_back(JsonReader(document_, &document_->wrapped.back(), fmt::format("{}[{}]", path_of(name), i)));
  }
  return out;
}

std::vector<std::string> JsonReader::texts(std::string_view name) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  std::vector<std::string> out;
  if (value->is_array()) {
    for (const Json& element : *value) {
      if (!element.is_string()) {
        complain(name, fmt::format("must hold strings only, not {}", element.type_name()));
        return {};
      }
      out.push_back(element.get<std::string>());
    }
    return out;
  }
  complain(name, fmt::format("must be a string or an array of strings, not {}", value->type_name()));
  return {};
}

std::optional<std::vector<std::int64_t>> JsonReader::integers(std::string_view name) {
  const Json* value = member_of(value_, name);
  if (value == nullptr) return std::nullopt;
  std::vector<std::int64_t> out;
  if (value->is_array()) {
    for (const Json& element : *value) {
      const auto number = whole(element);
      if (!number) {
        complain(name, fmt::format("must hold integers only, not {}", element.type_name()));
        return std::nullopt;
      }
      out.push_back(*number);
    }
    return out;
  }
  complain(name, fmt::format("must be an array of integers, not {}", value->type_name()));
  return std::nullopt;
}

std::vector<std::pair<std::string, double>> JsonReader::numbers_by_name(std::string_view name, double least,
                                                                        double most) {
  std::vector<std::pair<std::string, double>> out;
  auto reader = object(name);
  if (!reader) return out;
  for (const auto& [key, value] : json_at(reader->value_).items()) {
    if (const auto number = reader->number(key, least, most)) out.emplace_back(key, *number);
  }
  return out;
}

JsonReader::Kind JsonReader::kind(std::string_view name) const { return kind_of(member_of(value_, name)); }

JsonReader::Kind JsonReader::first_kind(std::string_view name) const {
  const Json* value = member_of(value_, name);
  return value == nullptr || !value->is_array() || value->empty() ? Kind::absent : kind_of(&value->front());
}

std::string JsonReader::dump(std::string_view name) const {
  const Json* value = member_of(value_, name);
  return value == nullptr ? std::string() : value->dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace krait::server
