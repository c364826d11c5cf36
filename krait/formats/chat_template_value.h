// Values of the language of chat templates, with Python's meaning: copies are cheap (text, lists and dicts are shared
// and never change once made), and only a namespace can be written to. Lists and dicts hold data alone, never
// namespaces, loops or macros, so no value can hold itself.
// Within the interpreter what goes wrong is thrown as a Failure, and caught at the doors of ChatTemplate, where it
// becomes a Result: the interpreter is one deep recursion, and sorting compares values that may not be comparable.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "krait/core/error.h"

namespace krait::formats::jinja {

struct Failure {
  ErrorCode code;
  std::string message;
};

// The conversation or the template asks for what cannot be done, such as the length of a number.
template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure{ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)};
}

// How much a rendering may still do. Everything that takes time or memory is paid for before it is done: a step for
// each node of the template, each element visited, each 32 bytes of text made or searched.
class Budget {
 public:
  explicit Budget(std::uint64_t steps) : limit_(steps), left_(steps) {}
  void spend(std::uint64_t steps);
  void spend_text(std::uint64_t bytes) { spend(1 + bytes / 32); }

 private:
  std::uint64_t limit_;
  std::uint64_t left_;
};

class Value;
using Values = std::vector<Value>;
class Dict;

// What is no data: namespaces, loops, macros, methods, functions.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
};

struct Undefined {
  std::string what;  // "'name' is undefined"
};
struct None {};

struct Sequence {
  Values items;
  bool is_tuple = false;
  int depth = 1;
};

class Value {
 public:
  Value() : content_(Undefined{}) {}
  Value(None none) : content_(none) {}
  Value(Undefined undefined) : content_(std::move(undefined)) {}
  Value(bool truth) : content_(truth) {}
  Value(std::int64_t number) : content_(number) {}
  Value(double number) : content_(number) {}
  Value(std::string text) : content_(std::make_shared<const std::string>(std::move(text))) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  Value(const char* text) : Value(std::string(text)) {}
  template <class T>
    requires std::is_base_of_v<Object, T>
  Value(std::shared_ptr<T> object) : content_(std::shared_ptr<Object>(std::move(object))) {}
  Value(Dict dict);
  static Value list(Values items) { return sequence(std::move(items), false); }
  static Value tuple(Values items) { return sequence(std::move(items), true); }
  static Value size(std::size_t count) { return {static_cast<std::int64_t>(count)}; }

  bool is_undefined() const { return std::holds_alternative<Undefined>(content_); }
  bool is_none() const { return std::holds_alternative<None>(content_); }
  bool is_boolean() const { return std::holds_alternative<bool>(content_); }
  bool is_float() const { return std::holds_alternative<double>(content_); }
  bool is_integer() const { return std::holds_alternative<std::int64_t>(content_); }
  bool is_whole() const { return is_integer() || is_boolean(); }  // Python's bool is an int
  bool is_number() const { return is_whole() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::shared_ptr<const std::string>>(content_); }
  bool is_sequence() const { return std::holds_alternative<std::shared_ptr<const Sequence>>(content_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(content_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(content_); }

  // Each asks for what is_…() says the value is.
  const std::string& undefined() const { return std::get<Undefined>(content_).what; }
  std::int64_t whole() const { return is_boolean() ? std::get<bool>(content_) : std::get<std::int64_t>(content_); }
  double number() const { return is_float() ? std::get<double>(content_) : static_cast<double>(whole()); }
  const std::string& text() const { return *std::get<std::shared_ptr<const std::string>>(content_); }
  const Values& items() const { return std::get<std::shared_ptr<const Sequence>>(content_)->items; }
  bool is_tuple() const { return is_sequence() && std::get<std::shared_ptr<const Sequence>>(content_)->is_tuple; }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(content_); }
  Object& object() const { return *std::get<std::shared_ptr<Object>>(content_); }
  template <class T>
  T* as() const {
    return is_object() ? dynamic_cast<T*>(&object()) : nullptr;
  }

  bool truth() const;
  int depth() const;  // of lists and dicts within one another
  std::string_view type_name() const;

 private:
  static Value sequence(Values items, bool is_tuple);

  std::variant<Undefined, None, bool, std::int64_t, double, std::shared_ptr<const std::string>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, std::shared_ptr<Object>>
      content_;
};

// Keeps the order in which keys came. 1, 1.0 and True are one key, as in Python.
class Dict {
 public:
  void set(Value key, Value value);
  const Value* find(const Value& key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  int depth() const { return depth_; }

 private:
  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, std::size_t> places_;
  int depth_ = 1;
};

bool equal(const Value& a, const Value& b, Budget& budget);
// -1, 0 or 1; refuses values that Python does not order.
int compare(const Value& a, const Value& b, Budget& budget);
bool contains(const Value& container, const Value& element, Budget& budget);
// The elements that a loop sees: of a list, the keys of a dict, the characters of a text.
Values elements(const Value& value, Budget& budget);
std::size_t length(const Value& value, Budget& budget);

// Python's str() and repr().
std::string to_text(const Value& value, Budget& budget);
std::string to_repr(const Value& value, Budget& budget);

}  // namespace krait::formats::jinja
