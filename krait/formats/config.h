// A model's configuration as flat typed keys, whichever file it came from: config.json (nested objects flattened
// with dots: "ssm_cfg.layer") or the metadata of a GGUF ("mamba2.ssm.state_size").
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "krait/core/error.h"

namespace krait::formats {

class Config {
 public:
  using Value = std::variant<std::monostate,  // JSON null
                             bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                             std::vector<bool>, std::vector<std::string>>;

  // `origin` names the file in error messages.
  explicit Config(std::string origin = "config") : origin_(std::move(origin)) {}

  // Parses the text of a JSON object. Accepts the bare words Infinity, -Infinity and NaN, which Python writes.
  // Empty arrays become vector<int64>; arrays of mixed numbers vector<double>; arrays of arrays or of objects are
  // kept under indexed keys ("layers.0.kind"). Nesting deeper than 64 is refused.
  static Result<Config> parse_json(std::string_view text, std::string origin);

  // JSON text that parse_json() reads back as it is here: an object with nested ones where keys have dots.
  // kInvalidArgument for a number that JSON has no word for, text that is not UTF-8, a key that is also the beginning
  // of another one ("a" beside "a.b").
  Result<std::string> to_json() const;

  void set(std::string key, Value value) { values_[std::move(key)] = std::move(value); }
  bool has(std::string_view key) const;  // present and not null
  const Value* find(std::string_view key) const;
  const std::map<std::string, Value, std::less<>>& values() const { return values_; }
  const std::string& origin() const { return origin_; }

  // Typed access. An integer is a valid number, a whole double a valid integer; the strings "Infinity" and
  // "-Infinity" are valid numbers. A missing key is kNotFound, another type kCorrupt, both naming key and file.
  Result<std::int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string> text(std::string_view key) const;
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;
  Result<std::vector<double>> numbers(std::string_view key) const;
  Result<std::vector<std::string>> texts(std::string_view key) const;

  // The same, with a value for a missing (or null) key; a key of the wrong type is still an error.
  Result<std::int64_t> integer_or(std::string_view key, std::int64_t fallback) const;
  Result<double> number_or(std::string_view key, double fallback) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;
  Result<std::string> text_or(std::string_view key, std::string fallback) const;

 private:
  std::string origin_;
  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace krait::formats
