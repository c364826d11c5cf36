// The variables of a rendering, and the two rewritings of messages that requests need.
#include "krait/formats/chat_template_context.h"

#include <utility>

#include "krait/formats/chat_template_json.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

using jinja::Dict;
using jinja::Value;
using jinja::Values;

// The dict with one value put in the place of another.
Value with(const Value& dict, std::string_view key, Value value) {
  Dict changed = dict.dict();
  changed.set(key, std::move(value));
  return changed;
}

const Value* find(const Value& value, std::string_view key) {
  return value.is_dict() ? value.dict().find(key) : nullptr;
}

Value unpacked(const Value& call) {
  const Value* function = find(call, "function");
  const Value& owner = function != nullptr ? *function : call;
  const Value* arguments = find(owner, "arguments");
  if (arguments == nullptr || !arguments->is_string()) return call;
  const auto object = jinja::read_json(arguments->text(), "arguments");
  if (!object || !object->is_dict()) return call;
  Value changed = with(owner, "arguments", *object);
  return function != nullptr ? with(call, "function", std::move(changed)) : std::move(changed);
}

Value with_unpacked_calls(const Value& message) {
  const Value* calls = find(message, "tool_calls");
  if (calls == nullptr || !calls->is_sequence()) return message;
  Values changed;
  for (const Value& call : calls->items()) changed.push_back(unpacked(call));
  return with(message, "tool_calls", Value::list(std::move(changed)));
}

Value with_joined_parts(const Value& message) {
  const Value* content = find(message, "content");
  if (content == nullptr || !content->is_sequence()) return message;
  std::string joined;
  for (const Value& part : content->items()) {
    const Value* type = find(part, "type");
    const Value* text = find(part, "text");
    if (text == nullptr || !text->is_string()) return message;
    if (type != nullptr && !(type->is_string() && type->text() == "text")) return message;
    if (&part != &content->items().front()) joined += '\n';
    joined += text->text();
  }
  return with(message, "content", std::move(joined));
}

void rewrite_messages(Dict& variables, Value (*rewrite)(const Value&)) {
  const Value* messages = variables.find("messages");
  if (messages == nullptr || !messages->is_sequence()) return;
  Values changed;
  for (const Value& message : messages->items()) changed.push_back(rewrite(message));
  variables.set("messages", Value::list(std::move(changed)));
}

}  // namespace

ChatContext::ChatContext() : variables_(std::make_unique<Variables>()) {
  variables_->dict.set("messages", Value::list({}));
  variables_->dict.set("tools", jinja::None{});
  variables_->dict.set("documents", jinja::None{});
  variables_->dict.set("add_generation_prompt", false);
}

ChatContext::ChatContext(ChatContext&&) noexcept = default;
ChatContext& ChatContext::operator=(ChatContext&&) noexcept = default;
ChatContext::~ChatContext() = default;

Result<ChatContext> ChatContext::parse(std::string_view json) {
  KRAIT_ASSIGN(const Value value, jinja::read_json(json, "the context"));
  if (!value.is_dict()) {
    return fail(ErrorCode::kInvalidArgument, "[chat template] the context is a {}, not a JSON object",
                value.type_name());
  }
  ChatContext context;
  for (const auto& [name, variable] : value.dict().entries()) context.variables_->dict.set(name, variable);
  return context;
}

Result<void> ChatContext::set_json(std::string_view name, std::string_view json) {
  KRAIT_ASSIGN(Value value, jinja::read_json(json, name));
  variables_->dict.set(name, std::move(value));
  return {};
}

Result<void> ChatContext::set_text(std::string_view name, std::string_view text) {
  if (const std::size_t end = valid_utf8_end(text, 0); end != text.size()) {
    return fail(ErrorCode::kInvalidArgument, "[chat template] {} is not UTF-8 at byte {}", name, end);
  }
  variables_->dict.set(name, text);
  return {};
}

void ChatContext::set_flag(std::string_view name, bool value) { variables_->dict.set(name, value); }

void ChatContext::unpack_tool_arguments() { rewrite_messages(variables_->dict, with_unpacked_calls); }
void ChatContext::join_text_parts() { rewrite_messages(variables_->dict, with_joined_parts); }

}  // namespace krait::formats
