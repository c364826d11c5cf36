// Reading on the event interface of the JSON library, so that depth is limited before a tree is built; writing as
// Python's json module does it, and Python's str() and repr(), which walk values the same way.
#include "krait/formats/chat_template_json.h"

#include <cmath>
#include <limits>
#include <list>
#include <nlohmann/json.hpp>

#include "krait/formats/chat_template_text.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats::jinja {
namespace {

constexpr std::size_t kDeepestJson = 64;

// Every method returns whether to go on.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  Value result;
  std::string problem;

  bool null() override { return add(None{}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return add(static_cast<double>(value));
    }
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) override { return stop("holds binary data"); }
  bool start_object(std::size_t) override { return open(true); }
  bool start_array(std::size_t) override { return open(false); }
  bool key(std::string& name) override {
    frames_.back().key = std::move(name);
    return true;
  }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    return stop(fmt::format("is not JSON at byte {}: {:.200}", position, error.what()));
  }

 private:
  struct Frame {
    bool is_object = false;
    std::string key;
    Dict dict;
    Values items;
  };

  bool stop(std::string why) {
    if (problem.empty()) problem = std::move(why);
    return false;
  }

  bool open(bool is_object) {
    if (frames_.size() == kDeepestJson) return stop(fmt::format("is nested deeper than {}", kDeepestJson));
    frames_.emplace_back().is_object = is_object;
    return true;
  }

  bool close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    return frame.is_object ? add(std::move(frame.dict)) : add(Value::list(std::move(frame.items)));
  }

  bool add(Value value) {
    if (frames_.empty()) {
      result = std::move(value);
    } else if (Frame& frame = frames_.back(); frame.is_object) {
      frame.dict.set(Value(std::move(frame.key)), std::move(value));
    } else {
      frame.items.push_back(std::move(value));
    }
    return true;
  }

  std::vector<Frame> frames_;
};

void write_string(std::string_view text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    const auto code = static_cast<std::uint32_t>(step.code);
    if (code == '"' || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n' || code == '\r' || code == '\t' || code == '\b' || code == '\f') {
      out += '\\';
      out += code == '\n' ? 'n' : code == '\r' ? 'r' : code == '\t' ? 't' : code == '\b' ? 'b' : 'f';
    } else if (code < 0x20 || (ensure_ascii && code > 0x7E && code < 0x10000)) {
      out += fmt::format("\\u{:04x}", code);
    } else if (ensure_ascii && code >= 0x10000) {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (code >> 10), 0xDC00 + (code & 0x3FF));
    } else {
      out += text.substr(at, step.length);
    }
    at += step.length;
  }
  out += '"';
}

std::string spell_json_float(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return spell_float(number);
}

class Writer {
 public:
  Writer(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void write(const Value& value, std::size_t level) {
    budget_.spend(1);
    if (value.is_string()) {
      budget_.spend_text(value.text().size());
      write_string(value.text(), style_.ensure_ascii, out);
    } else if (value.is_none()) {
      out += "null";
    } else if (value.is_boolean()) {
      out += value.whole() != 0 ? "true" : "false";
    } else if (value.is_integer()) {
      out += fmt::format("{}", value.whole());
    } else if (value.is_float()) {
      out += spell_json_float(value.number());
    } else if (value.is_sequence()) {
      write_list(value.items(), level);
    } else if (value.is_dict()) {
      write_dict(value.dict(), level);
    } else if (value.is_undefined()) {
      refuse("{}, so it has no JSON", value.undefined());
    } else {
      refuse("a {} has no JSON", value.type_name());
    }
  }

  std::string out;

 private:
  void start_line(std::size_t level) {
    if (!style_.indent) return;
    budget_.spend_text(level * style_.indent->size());
    out += '\n';
    for (std::size_t i = 0; i < level; ++i) out += *style_.indent;
  }

  void write_list(const Values& items, std::size_t level) {
    out += '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += style_.item_separator;
      start_line(level + 1);
      write(items[i], level + 1);
    }
    if (!items.empty()) start_line(level);
    out += ']';
  }

  std::string spell_key(const Value& key) const {
    if (key.is_string()) return key.text();
    if (key.is_none()) return "null";
    if (key.is_boolean()) return key.whole() != 0 ? "true" : "false";
    if (key.is_integer()) return fmt::format("{}", key.whole());
    if (key.is_float()) return spell_json_float(key.number());
    refuse("a {} cannot be a key in JSON", key.type_name());
  }

  void write_dict(const Dict& dict, std::size_t level) {
    budget_.spend(dict.entries().size());
    std::list<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      entries.sort([&](const auto* a, const auto* b) { return compare(a->first, b->first, budget_) < 0; });
    }
    out += '{';
    for (const auto* entry : entries) {
      if (entry != entries.front()) out += style_.item_separator;
      start_line(level + 1);
      write_string(spell_key(entry->first), style_.ensure_ascii, out);
      out += style_.key_separator;
      write(entry->second, level + 1);
    }
    if (!entries.empty()) start_line(level);
    out += '}';
  }

  const JsonStyle& style_;
  Budget& budget_;
};

void append_repr(const Value& value, Budget& budget, std::string& out) {
  budget.spend(1);
  if (value.is_string()) {
    budget.spend_text(value.text().size());
    out += quote(value.text());
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_none()) {
    out += "None";
  } else if (value.is_boolean()) {
    out += value.whole() != 0 ? "True" : "False";
  } else if (value.is_integer()) {
    out += fmt::format("{}", value.whole());
  } else if (value.is_float()) {
    out += spell_float(value.number());
  } else if (value.is_sequence()) {
    const Values& items = value.items();
    out += value.is_tuple() ? '(' : '[';
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out += ", ";
      append_repr(items[i], budget, out);
    }
    if (value.is_tuple() && items.size() == 1) out += ',';
    out += value.is_tuple() ? ')' : ']';
  } else if (value.is_dict()) {
    out += '{';
    const char* separator = "";
    for (const auto& [key, inner] : value.dict().entries()) {
      out += separator;
      append_repr(key, budget, out);
      out += ": ";
      append_repr(inner, budget, out);
      separator = ", ";
    }
    out += '}';
  } else {
    out += fmt::format("<{}>", value.type_name());
  }
}

}  // namespace

Result<Value> read_json(std::string_view text, std::string_view what) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) {
    return fail(ErrorCode::kInvalidArgument, "[chat template] {} {}", what, builder.problem);
  }
  return std::move(builder.result);
}

std::string write_json(const Value& value, const JsonStyle& style, Budget& budget) {
  Writer writer(style, budget);
  writer.write(value, 0);
  return std::move(writer.out);
}

std::string to_repr(const Value& value, Budget& budget) {
  std::string out;
  append_repr(value, budget, out);
  return out;
}

std::string to_text(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  if (!value.is_string()) return to_repr(value, budget);
  budget.spend_text(value.text().size());
  return value.text();
}

}  // namespace krait::formats::jinja
