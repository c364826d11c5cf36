// Truth, equality, order and membership of values as Python has them.
#include "krait/formats/chat_template_value.h"

#include <algorithm>
#include <cmath>

#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

// Values within values are walked by recursion, and freed by it.
constexpr int kDeepestValue = 100;

int deeper(int depth, const Value& inner) {
  if (inner.is_object()) refuse("a {} cannot be kept within another value", inner.type_name());
  depth = std::max(depth, inner.depth() + 1);
  if (depth > kDeepestValue) {
    throw Failure{ErrorCode::kResourceExhausted, fmt::format("values nested deeper than {}", kDeepestValue)};
  }
  return depth;
}

// One spelling for all keys that Python holds equal.
std::string spell_key(const Value& key) {
  if (key.is_string()) return "s" + key.text();
  if (key.is_none()) return "none";
  if (key.is_float() && std::floor(key.number()) == key.number() && std::abs(key.number()) < 0x1p62) {
    return fmt::format("n{}", static_cast<std::int64_t>(key.number()));
  }
  if (key.is_float()) return fmt::format("n{}", key.number());
  if (key.is_whole()) return fmt::format("n{}", key.whole());
  if (key.is_tuple()) {
    std::string spelling = "t";
    for (const Value& item : key.items()) {
      const std::string inner = spell_key(item);
      spelling += fmt::format("{}:{}", inner.size(), inner);
    }
    return spelling;
  }
  refuse("a {} cannot be the key of a dict", key.type_name());
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_whole() && b.is_whole()) return a.whole() < b.whole() ? -1 : a.whole() > b.whole();
  const auto wide = [](const Value& value) {
    return value.is_float() ? static_cast<long double>(value.number()) : static_cast<long double>(value.whole());
  };
  return wide(a) < wide(b) ? -1 : wide(a) > wide(b);
}

}  // namespace

void Budget::spend(std::uint64_t steps) {
  if (steps > left_) {
    left_ = 0;
    throw Failure{ErrorCode::kResourceExhausted, fmt::format("more work than the limit of {} steps", limit_)};
  }
  left_ -= steps;
}

Value::Value(Dict dict) : content_(std::make_shared<const Dict>(std::move(dict))) {}

Value Value::sequence(Values items, bool is_tuple) {
  int depth = 1;
  for (const Value& item : items) depth = deeper(depth, item);
  Value value;
  value.content_ = std::make_shared<const Sequence>(std::move(items), is_tuple, depth);
  return value;
}

int Value::depth() const {
  if (is_sequence()) return std::get<std::shared_ptr<const Sequence>>(content_)->depth;
  return is_dict() ? dict().depth() : 0;
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_whole()) return whole() != 0;
  if (is_float()) return number() != 0;
  if (is_string()) return !text().empty();
  if (is_sequence()) return !items().empty();
  if (is_dict()) return !dict().entries().empty();
  return true;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "undefined value";
  if (is_none()) return "None";
  if (is_boolean()) return "boolean";
  if (is_integer()) return "integer";
  if (is_float()) return "float";
  if (is_string()) return "string";
  if (is_sequence()) return is_tuple() ? "tuple" : "list";
  if (is_dict()) return "dict";
  return object().type_name();
}

void Dict::set(Value key, Value value) {
  depth_ = deeper(deeper(depth_, key), value);
  const auto [place, is_new] = places_.try_emplace(spell_key(key), entries_.size());
  if (is_new) {
    entries_.emplace_back(std::move(key), std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
}

const Value* Dict::find(const Value& key) const {
  const auto found = places_.find(spell_key(key));
  return found == places_.end() ? nullptr : &entries_[found->second].second;
}

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) {
    if (std::isnan(a.number()) || std::isnan(b.number())) return false;
    return compare_numbers(a, b) == 0;
  }
  if (a.is_string() && b.is_string()) {
    if (a.text().size() != b.text().size()) return false;
    budget.spend_text(a.text().size());
    return a.text() == b.text();
  }
  if (a.is_sequence() && b.is_sequence()) {
    if (a.is_tuple() != b.is_tuple() || a.items().size() != b.items().size()) return false;
    for (std::size_t i = 0; i < a.items().size(); ++i) {
      if (!equal(a.items()[i], b.items()[i], budget)) return false;
    }
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().entries().size() != b.dict().entries().size()) return false;
    for (const auto& [key, value] : a.dict().entries()) {
      const Value* other = b.dict().find(key);
      if (other == nullptr || !equal(value, *other, budget)) return false;
    }
    return true;
  }
  if (a.is_object() && b.is_object()) return &a.object() == &b.object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b, Budget& budget) {
  budget.spend(1);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    budget.spend_text(std::min(a.text().size(), b.text().size()));
    const int order = a.text().compare(b.text());  // bytes of UTF-8 are ordered as their characters
    return order < 0 ? -1 : order > 0;
  }
  if (a.is_sequence() && b.is_sequence() && a.is_tuple() == b.is_tuple()) {
    const std::size_t shorter = std::min(a.items().size(), b.items().size());
    for (std::size_t i = 0; i < shorter; ++i) {
      if (!equal(a.items()[i], b.items()[i], budget)) return compare(a.items()[i], b.items()[i], budget);
    }
    return a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size();
  }
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) refuse("{}", value->undefined());
  }
  refuse("a {} and a {} have no order", a.type_name(), b.type_name());
}

bool contains(const Value& container, const Value& element, Budget& budget) {
  if (container.is_undefined()) return false;
  if (container.is_string()) {
    if (element.is_undefined()) refuse("{}", element.undefined());
    if (!element.is_string()) refuse("a {} cannot be sought in a string", element.type_name());
    return find_text(container.text(), element.text(), 0, budget) != std::string::npos;
  }
  if (container.is_dict()) {
    budget.spend(1);
    return container.dict().find(element) != nullptr;
  }
  if (!container.is_sequence()) refuse("nothing can be sought in a {}", container.type_name());
  for (const Value& item : container.items()) {
    if (equal(item, element, budget)) return true;
  }
  return false;
}

Values elements(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  Values result;
  if (value.is_sequence()) {
    budget.spend(value.items().size());
    result = value.items();
  } else if (value.is_dict()) {
    budget.spend(value.dict().entries().size());
    for (const auto& [key, ignored] : value.dict().entries()) result.push_back(key);
  } else if (value.is_string()) {
    budget.spend(value.text().size());
    for (const std::string_view character : characters(value.text())) result.emplace_back(character);
  } else {
    refuse("a {} has no elements", value.type_name());
  }
  return result;
}

std::size_t length(const Value& value, Budget& budget) {
  if (value.is_undefined()) return 0;
  if (value.is_sequence()) return value.items().size();
  if (value.is_dict()) return value.dict().entries().size();
  if (value.is_string()) {
    budget.spend_text(value.text().size());
    return count_characters(value.text());
  }
  refuse("a {} has no length", value.type_name());
}

}  // namespace krait::formats::jinja
