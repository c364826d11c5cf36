#include "krait/formats/chat_template_access.h"

#include <algorithm>

#include "krait/formats/chat_template_text.h"

namespace krait::formats::jinja {
namespace {

[[noreturn]] void refuse_undefined(const Value& value) { refuse("{}", value.undefined()); }

// Where a Python index from the end or the start lands in `size` elements; npos outside.
std::size_t place_of(std::int64_t index, std::size_t size) {
  const auto count = static_cast<std::int64_t>(size);
  if (index < 0) index += count;
  return index < 0 || index >= count ? std::string::npos : static_cast<std::size_t>(index);
}

std::optional<std::int64_t> bound_of(const Value& value) {
  if (value.is_none()) return std::nullopt;
  if (value.is_undefined()) refuse_undefined(value);
  if (!value.is_whole()) refuse("a slice needs integers, not a {}", value.type_name());
  return value.whole();
}

}  // namespace

Value Loop::attribute(std::string_view name) const {
  const std::size_t size = items->size();
  if (name == "index") return Value::size(index + 1);
  if (name == "index0") return Value::size(index);
  if (name == "revindex") return Value::size(size - index);
  if (name == "revindex0") return Value::size(size - index - 1);
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == size;
  if (name == "length") return Value::size(size);
  if (name == "depth") return Value::size(depth);
  if (name == "depth0") return Value::size(depth - 1);
  if (name == "previtem") return index == 0 ? Undefined{"there is no previous item"} : (*items)[index - 1];
  if (name == "nextitem") return index + 1 == size ? Undefined{"there is no next item"} : (*items)[index + 1];
  return Undefined{fmt::format("a loop has no attribute {}", quote(name))};
}

Value attribute(const Value& value, const std::string& name) {
  if (value.is_undefined()) refuse_undefined(value);
  if (has_method(value, name)) return std::make_shared<Method>(value, name);
  if (value.is_dict()) {
    if (const Value* found = value.dict().find(name)) return *found;
  } else if (const auto* space = value.as<Namespace>()) {
    if (const auto found = space->values.find(name); found != space->values.end()) return found->second;
  } else if (const auto* loop = value.as<Loop>()) {
    return loop->attribute(name);
  }
  return Undefined{fmt::format("a {} has no attribute {}", value.type_name(), quote(name))};
}

Value item(const Value& value, const Value& key, Budget& budget) {
  if (value.is_undefined()) refuse_undefined(value);
  if (value.is_dict()) {
    budget.spend_text(key.is_string() ? key.text().size() : 0);
    if (key.is_undefined()) return Undefined{key.undefined()};
    if (key.is_sequence() || key.is_dict() || key.is_object()) {
      return Undefined{fmt::format("a dict has no key that is a {}", key.type_name())};
    }
    if (const Value* found = value.dict().find(key)) return *found;
  }
  if (key.is_string()) {
    if (!value.is_dict() || has_method(value, key.text())) return attribute(value, key.text());
  } else if (key.is_whole() && value.is_sequence()) {
    const std::size_t place = place_of(key.whole(), value.items().size());
    if (place != std::string::npos) return value.items()[place];
  } else if (key.is_whole() && value.is_string()) {
    budget.spend(value.text().size() / 8);
    const auto all = characters(value.text());
    const std::size_t place = place_of(key.whole(), all.size());
    if (place != std::string::npos) return all[place];
  }
  return Undefined{fmt::format("a {} has no element {:.100}", value.type_name(), to_repr(key, budget))};
}

Value slice(const Value& value, const Value& from, const Value& to, const Value& step_value, Budget& budget) {
  if (value.is_undefined()) refuse_undefined(value);
  if (!value.is_sequence() && !value.is_string()) refuse("a {} has no slices", value.type_name());
  const std::int64_t step = bound_of(step_value).value_or(1);
  if (step == 0) refuse("the step of a slice is 0");
  const Values all = elements(value, budget);
  const auto size = static_cast<std::int64_t>(all.size());
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? size : size - 1;
  const auto clamp = [&](std::optional<std::int64_t> bound, std::int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? *bound + size : *bound, low, high);
  };
  const std::int64_t start = clamp(bound_of(from), step > 0 ? low : high);
  const std::int64_t stop = clamp(bound_of(to), step > 0 ? high : low);
  Values chosen;
  // Steps past the end may be as large as an integer gets.
  for (std::int64_t i = start; step > 0 ? i < stop : i > stop;) {
    chosen.push_back(all[static_cast<std::size_t>(i)]);
    const std::int64_t room = stop - i;
    if (step > 0 ? step >= room : step <= room) break;
    i += step;
  }
  if (value.is_sequence()) return value.is_tuple() ? Value::tuple(std::move(chosen)) : Value::list(std::move(chosen));
  std::string text;
  for (const Value& character : chosen) text += character.text();
  return text;
}

Value attribute_path(const Value& value, const Value& path, Budget& budget) {
  if (!path.is_string()) return item(value, path, budget);
  Value result = value;
  for (const Value& part : split_text(path.text(), ".", -1, false, budget)) {
    const std::string& name = part.text();
    if (is_all(name, Character::kDigit) && name.size() < 10) {
      result = item(result, static_cast<std::int64_t>(std::stoll(name)), budget);
    } else {
      result = item(result, part, budget);
    }
  }
  return result;
}

}  // namespace krait::formats::jinja
