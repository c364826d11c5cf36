#include "krait/server/tool_call_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kFunction = "<function=";
constexpr std::string_view kFunctionEnd = "</function>";
constexpr std::string_view kParameter = "<parameter=";
constexpr std::string_view kParameterEnd = "</parameter>";

std::size_t skip_space(std::string_view text, std::size_t at) {
  const std::size_t end = text.find_first_not_of(kSpace, at);
  return end == std::string_view::npos ? text.size() : end;
}

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Behind the JSON object or array that begins at `at`; none while it is not complete.
std::optional<std::size_t> json_end(std::string_view text, std::size_t at) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if ((c == '}' || c == ']') && --depth == 0) {
      return i + 1;
    }
  }
  return std::nullopt;
}

// The longest end of a text that begins `mark`.
std::size_t begun(std::string_view text, std::string_view mark) {
  for (std::size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.ends_with(mark.substr(0, n))) return n;
  }
  return 0;
}

// {"name": …, "arguments": {…}}, where models also say "parameters", and wrap the object into a string.
std::optional<ToolCall> call_of(const Json& value, const ToolUse& use) {
  if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) return std::nullopt;
  ToolCall call{.id = {}, .name = value["name"].get<std::string>(), .arguments = "{}"};
  if (use.find(call.name) == nullptr) return std::nullopt;
  for (const char* key : {"arguments", "parameters"}) {
    if (!value.contains(key)) continue;
    Json arguments = value[key];
    if (arguments.is_string()) arguments = Json::parse(arguments.get<std::string>(), nullptr, false);
    if (!arguments.is_object()) return std::nullopt;
    call.arguments = dump(arguments);
    break;
  }
  return call;
}

std::string_view trimmed_line_ends(std::string_view text) {
  if (text.starts_with('\n')) text.remove_prefix(1);
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string xml_value(const ToolDefinition& tool, const std::string& key, std::string_view text) {
  text = trimmed_line_ends(text);
  const Json schema = tool.parameters.empty() ? Json() : Json::parse(tool.parameters, nullptr, false);
  Json type;
  if (schema.is_object() && schema.contains("properties") && schema["properties"].is_object()) {
    const Json property = schema["properties"].value(key, Json());
    if (property.is_object()) type = property.value("type", Json());
  }
  if (type != "string") {
    const Json value = Json::parse(text, nullptr, false);
    if (!value.is_discarded()) return dump(value);
  }
  return dump(Json(text));
}

ToolCallReader::ToolCallReader(const ToolForm& form, ToolUse use, Options options)
    : form_(form), use_(std::move(use)), options_(options), random_(options.id_seed) {}

std::string ToolCallReader::new_id() {
  // Nine letters and digits are what the templates of Mistral's models ask for; others take anything.
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  std::string id(9, '0');
  std::uint64_t bits = random_.next();
  for (char& c : id) {
    c = kLetters[bits % kLetters.size()];
    bits /= kLetters.size();
  }
  return id;
}

void ToolCallReader::say(Parts& parts, std::string_view text) {
  if (text.empty()) return;
  said_ = true;
  parts.push_back({.text = std::string(text)});
}

void ToolCallReader::begin_call(Parts& parts, std::string name) {
  ReplyPart part;
  part.is_call = true;
  part.call = calls_++;
  part.begins = true;
  part.id = new_id();
  part.name = std::move(name);
  parts.push_back(std::move(part));
}

void ToolCallReader::more(Parts& parts, std::string arguments, bool ends) {
  if (arguments.empty() && !ends) return;
  ReplyPart part;
  part.is_call = true;
  part.call = calls_ - 1;
  part.arguments = std::move(arguments);
  part.ends = ends;
  parts.push_back(std::move(part));
}

std::vector<ReplyPart> ToolCallReader::feed(std::string_view text) {
  Parts parts;
  rest_ += text;
  // A long call is looked at again where it may have ended, not at every token.
  constexpr std::size_t kLong = 4096;
  if (in_call_ && rest_.size() > kLong && text.find_first_of("}]>") == std::string_view::npos) return parts;
  if (!options_.constrained) {
    look(parts, false);
  } else if (form_.body == ToolForm::Body::xml) {
    follow_xml(parts);
  } else {
    follow_json(parts);
  }
  return parts;
}

std::vector<ReplyPart> ToolCallReader::finish() {
  Parts parts;
  if (!options_.constrained) {
    look(parts, true);
    return parts;
  }
  // A call that was cut off stays as far as it came; a text that was cut off before any call is still to be seen.
  if (calls_ == 0) say(parts, rest_);
  rest_.clear();
  return parts;
}

void ToolCallReader::look(Parts& parts, bool over) {
  while (!rest_.empty()) {
    if (!in_call_) {
      const std::size_t first = skip_space(rest_, 0);
      const bool bare = form_.opening.empty() || options_.hidden_marks;
      if (bare && !said_ && calls_ > 0 && first < rest_.size() && rest_[first] == ';') {
        // Llama's models part calls by a semicolon.
        const std::size_t next = skip_space(rest_, first + 1);
        if (next == rest_.size() && !over) return;
        if (next < rest_.size() && rest_[next] == '{') {
          rest_.erase(0, next);
          continue;
        }
      }
      std::size_t at = form_.opening.empty() ? std::string::npos : rest_.find(form_.opening);
      if (bare && !said_ && first < rest_.size() && (rest_[first] == '{' || rest_[first] == '[')) at = first;
      if (at == std::string::npos) {
        // White space and what may begin the mark waits: it belongs to the call, if one follows.
        std::size_t held = over || form_.opening.empty() ? 0 : begun(rest_, form_.opening);
        if (bare && !said_ && first == rest_.size() && !over) held = rest_.size();
        std::string_view shown = std::string_view(rest_).substr(0, rest_.size() - held);
        if (!over && !form_.opening.empty()) {
          const std::size_t last = shown.find_last_not_of(kSpace);
          shown = shown.substr(0, last == std::string_view::npos ? 0 : last + 1);
        }
        // Nothing but white space behind calls is no text.
        if (over && calls_ > 0 && skip_space(shown, 0) == shown.size()) shown = {};
        say(parts, shown);
        rest_.erase(0, over ? rest_.size() : shown.size());
        return;
      }
      const std::string_view before = std::string_view(rest_).substr(0, at);
      const std::size_t last = before.find_last_not_of(kSpace);
      const std::size_t kept = last == std::string_view::npos ? 0 : last + 1;
      say(parts, before.substr(0, kept));
      // The white space stays with the call, in case it is none.
      rest_.erase(0, kept);
      in_call_ = true;
    }
    const std::size_t space = skip_space(rest_, 0);
    Taken taken = take(std::string_view(rest_).substr(space), over);
    if (taken.what == Taken::kMore) return;
    in_call_ = false;
    if (taken.what == Taken::kCalls) {
      for (ToolCall& call : taken.calls) {
        begin_call(parts, std::move(call.name));
        more(parts, std::move(call.arguments), true);
      }
      rest_.erase(0, space + taken.bytes);
      continue;
    }
    // No call: its first character and what is before it are text, and one may begin behind it.
    const std::size_t mark = std::max<std::size_t>(form_.opening.size(), 1);
    const std::size_t bytes =
        std::min(rest_.size(), space + (std::string_view(rest_).substr(space).starts_with(form_.opening) ? mark : 1));
    say(parts, std::string_view(rest_).substr(0, bytes));
    rest_.erase(0, bytes);
  }
}

ToolCallReader::Taken ToolCallReader::take(std::string_view text, bool over) const {
  return form_.body == ToolForm::Body::xml ? take_xml(text, over) : take_json(text, over);
}

ToolCallReader::Taken ToolCallReader::take_json(std::string_view text, bool over) const {
  const Taken more{.what = over ? Taken::kNone : Taken::kMore};
  const bool marked = !form_.opening.empty() && text.starts_with(form_.opening);
  const std::size_t first = skip_space(text, marked ? form_.opening.size() : 0);
  if (first == text.size()) return more;
  if (text[first] != '{' && text[first] != '[') return {};
  const auto end = json_end(text, first);
  if (!end) return more;
  const Json value = Json::parse(text.substr(first, *end - first), nullptr, false);
  if (value.is_discarded()) return {};
  Taken taken{.what = Taken::kCalls, .bytes = *end};
  for (const Json& one : value.is_array() ? value : Json::array({value})) {
    auto call = call_of(one, use_);
    if (!call) return {};
    taken.calls.push_back(*std::move(call));
  }
  if (taken.calls.empty()) return {};
  return marked ? closed(std::move(taken), text, over) : taken;
}

ToolCallReader::Taken ToolCallReader::closed(Taken taken, std::string_view text, bool over) const {
  // The closing mark may be missing: the end of the reply, or a special token, does for it.
  if (form_.closing.empty()) return taken;
  const std::size_t at = skip_space(text, taken.bytes);
  const std::string_view tail = text.substr(at);
  if (tail.starts_with(form_.closing)) {
    taken.bytes = at + form_.closing.size();
  } else if (!over && form_.closing.starts_with(tail)) {
    return {.what = Taken::kMore};
  }
  return taken;
}

ToolCallReader::Taken ToolCallReader::take_xml(std::string_view text, bool over) const {
  const Taken more{.what = over ? Taken::kNone : Taken::kMore};
  const std::size_t first = skip_space(text, text.starts_with(form_.opening) ? form_.opening.size() : 0);
  if (first == text.size()) return more;
  const std::string_view call_text = text.substr(first);
  if (!call_text.starts_with(kFunction)) {
    return kFunction.starts_with(call_text) && !over ? more : Taken{};
  }
  const std::size_t end = text.find(kFunctionEnd, first);
  if (end == std::string_view::npos) return more;
  std::string_view body = text.substr(first + kFunction.size(), end - first - kFunction.size());
  const std::size_t name_end = body.find('>');
  if (name_end == std::string_view::npos) return {};
  ToolCall call{.id = {}, .name = std::string(body.substr(0, name_end)), .arguments = "{"};
  const ToolDefinition* tool = use_.find(call.name);
  if (tool == nullptr) return {};
  body.remove_prefix(name_end + 1);
  for (std::size_t at = skip_space(body, 0); at < body.size(); at = skip_space(body, at)) {
    const std::size_t key_end = body.find('>', at);
    const std::size_t value_end = body.find(kParameterEnd, at);
    if (!body.substr(at).starts_with(kParameter) || key_end == std::string_view::npos ||
        value_end == std::string_view::npos || value_end < key_end) {
      return {};
    }
    const std::string key(body.substr(at + kParameter.size(), key_end - at - kParameter.size()));
    if (call.arguments.size() > 1) call.arguments += ", ";
    call.arguments += dump(Json(key)) + ": " + xml_value(*tool, key, body.substr(key_end + 1, value_end - key_end - 1));
    at = value_end + kParameterEnd.size();
  }
  call.arguments += "}";
  Taken taken{.what = Taken::kCalls, .bytes = end + kFunctionEnd.size()};
  taken.calls.push_back(std::move(call));
  return closed(std::move(taken), text, over);
}

void ToolCallReader::follow_json(Parts& parts) {
  constexpr std::string_view kName = "{\"name\": \"";
  const std::string before_arguments = fmt::format("\", \"{}\": ", form_.arguments);
  while (true) {
    if (!open_) {
      const std::size_t at = rest_.find(kName);
      if (at == std::string::npos) return;
      const std::size_t name = at + kName.size();
      const std::size_t end = rest_.find(before_arguments, name);
      if (end == std::string::npos) return;
      begin_call(parts, rest_.substr(name, end - name));
      rest_.erase(0, end + before_arguments.size());
      open_ = true;
    }
    for (std::size_t i = 0; i < rest_.size() && open_; ++i) {
      const char c = rest_[i];
      if (in_string_) {
        if (escaped_) {
          escaped_ = false;
        } else if (c == '\\') {
          escaped_ = true;
        } else if (c == '"') {
          in_string_ = false;
        }
      } else if (c == '"') {
        in_string_ = true;
      } else if (c == '{' || c == '[') {
        ++depth_;
      } else if ((c == '}' || c == ']') && --depth_ == 0) {
        more(parts, rest_.substr(0, i + 1), true);
        rest_.erase(0, i + 1);
        open_ = false;
      }
    }
    if (open_) {
      more(parts, std::exchange(rest_, {}), false);
      return;
    }
  }
}

void ToolCallReader::follow_xml(Parts& parts) {
  while (true) {
    if (!open_) {
      const std::size_t at = rest_.find(kFunction);
      if (at == std::string::npos) return;
      const std::size_t end = rest_.find('>', at);
      if (end == std::string::npos) return;
      const std::size_t name = at + kFunction.size();
      name_ = rest_.substr(name, end - name);
      begin_call(parts, name_);
      rest_.erase(0, end + 1);
      open_ = true;
      has_parameter_ = false;
    }
    const std::size_t at = skip_space(rest_, 0);
    const std::string_view text = std::string_view(rest_).substr(at);
    if (text.starts_with(kFunctionEnd)) {
      more(parts, has_parameter_ ? "}" : "{}", true);
      rest_.erase(0, at + kFunctionEnd.size());
      open_ = false;
      continue;
    }
    const std::size_t end = text.find(kParameterEnd);
    if (end == std::string_view::npos) return;
    const std::size_t key_end = text.find('>');
    const std::string key(text.substr(kParameter.size(), key_end - kParameter.size()));
    const ToolDefinition* tool = use_.find(name_);
    std::string piece = has_parameter_ ? ", " : "{";
    piece += dump(Json(key)) + ": ";
    piece += tool == nullptr ? dump(Json(text)) : xml_value(*tool, key, text.substr(key_end + 1, end - key_end - 1));
    more(parts, std::move(piece), false);
    has_parameter_ = true;
    rest_.erase(0, at + end + kParameterEnd.size());
  }
}

}  // namespace krait::server
