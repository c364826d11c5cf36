#include "krait/server/chat_form.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

// Stands where a message would, and nowhere else in a rendered text.
constexpr std::string_view kNeedle = "krait-7f3a91c4-needle";

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

ApiError refusal(const Error& error) {
  ApiError out;
  out.message = "messages: " + error.message;
  out.param = "messages";
  out.code = "chat_template_error";
  return out;
}

std::size_t count(std::string_view text, std::string_view of) {
  std::size_t found = 0;
  for (std::size_t at = text.find(of); at != std::string_view::npos; at = text.find(of, at + of.size())) ++found;
  return found;
}

Json messages_of(std::span<const ChatMessage> messages) {
  Json out = Json::array();
  for (const ChatMessage& message : messages) out.push_back({{"role", message.role}, {"content", message.content}});
  return out;
}

// Contents as parts, each a text.
void spread(Json& message) {
  if (message.contains("content") && message["content"].is_string()) {
    message["content"] = Json::array({{{"type", "text"}, {"text", message["content"]}}});
  }
}

void pack_arguments(Json& message) {
  if (!message.contains("tool_calls") || !message["tool_calls"].is_array()) return;
  for (Json& call : message["tool_calls"]) {
    if (call.is_object() && call.contains("function") && call["function"].is_object() &&
        call["function"].contains("arguments") && call["function"]["arguments"].is_object()) {
      call["function"]["arguments"] = dump(call["function"]["arguments"]);
    }
  }
}

}  // namespace

Result<ChatForm> ChatForm::of(formats::ChatTemplateSet set) {
  ChatForm form;
  form.set_ = std::move(set);
  for (const bool has_tools : {false, true}) {
    KRAIT_ASSIGN(const formats::ChatTemplate* chosen, form.set_->choose(has_tools));
    form.fitted_[has_tools ? 1 : 0] = form.fit(*chosen);
  }
  return form;
}

ChatForm::Fitted ChatForm::fit(const formats::ChatTemplate& chosen) const {
  Fitted fitted{.chosen = chosen};
  fitted.form = &tool_form_of(chosen.source());
  fitted.knows_tools = chosen.reads("tools");
  fitted.knows_developers = chosen.source().find("developer") != std::string::npos;
  if (!fitted.knows_tools) fitted.form = &generic_tool_form();
  const auto tried = [&](const Json& messages) {
    Conversation conversation;
    conversation.messages_json = dump(messages);
    return render(fitted, conversation, "", true, false).value_or("");
  };
  Json user = {{"role", "user"}, {"content", kNeedle}};
  if (tried(Json::array({user})).find(kNeedle) == std::string::npos) {
    fitted.wants_parts = true;
    fitted.wants_parts = tried(Json::array({user})).find(kNeedle) != std::string::npos;
  }
  Json call = {{"id", "needle001"},
               {"type", "function"},
               {"function", {{"name", "f"}, {"arguments", {{"needle_key", "needle_value"}}}}}};
  const auto shows = [&](std::initializer_list<std::string_view> signs) {
    const std::string text =
        tried(Json::array({user, {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}}}));
    return std::ranges::any_of(signs, [&](std::string_view sign) { return text.find(sign) != std::string::npos; });
  };
  // An object shown as JSON, or key by key; else it may be that a text is shown as it is.
  if (fitted.knows_tools && !shows({"\"needle_key\"", "needle_key>", "needle_key="})) {
    fitted.wants_text_arguments = true;
    fitted.wants_text_arguments = shows({"{\"needle_key\""});
  }
  return fitted;
}

const ChatForm::Fitted& ChatForm::fitted(const Conversation& conversation) const {
  return *fitted_[conversation.tools_json.empty() ? 0 : 1];
}

const ToolForm& ChatForm::tool_form(const Conversation& conversation) const {
  return set_ ? *fitted(conversation).form : generic_tool_form();
}

Result<std::string> ChatForm::render(const Fitted& fitted, const Conversation& conversation, const std::string& prior,
                                     bool with_messages, bool ask) const {
  const bool has_calls = std::ranges::any_of(conversation.messages, [](const ChatMessage& message) {
    return message.role == "tool" || !message.calls.empty();
  });
  const bool spell_out = !fitted.knows_tools && (has_calls || !conversation.tools_json.empty());
  Json messages = prior.empty() ? Json::array() : Json::parse(prior);
  if (with_messages) {
    const Json given =
        spell_out ? messages_of(spell_out_calls(conversation, "user")) : Json::parse(conversation.messages_json);
    messages.insert(messages.end(), given.begin(), given.end());
  }
  for (Json& message : messages) {
    if (!message.contains("content") || message["content"].is_null()) message["content"] = "";
    if (message["role"] == "developer" && !fitted.knows_developers) message["role"] = "system";
    if (fitted.wants_parts) spread(message);
    if (fitted.wants_text_arguments) pack_arguments(message);
  }
  formats::ChatContext context;
  if (!conversation.variables_json.empty()) {
    const Json variables = Json::parse(conversation.variables_json);
    for (const auto& [name, value] : variables.items()) {
      KRAIT_TRY(context.set_json(name, dump(value)));
    }
  }
  KRAIT_TRY(context.set_json("messages", dump(messages)));
  if (!conversation.tools_json.empty() && !spell_out) {
    KRAIT_TRY(context.set_json("tools", conversation.tools_json));
  }
  context.set_flag("add_generation_prompt", ask);
  KRAIT_TRY(set_->add_special_tokens(context));
  if (!fitted.wants_parts) context.join_text_parts();
  if (!fitted.wants_text_arguments) context.unpack_tool_arguments();
  return fitted.chosen.render(context);
}

ApiResult<ChatPrompt> ChatForm::prompt(const Conversation& conversation, bool ask) const {
  if (!set_) return plain_chat_prompt(spell_out_calls(conversation, "tool"), ask, false);
  auto text = render(fitted(conversation), conversation, "", true, ask);
  if (!text) return std::unexpected(refusal(text.error()));
  // As transformers has it, the template writes all special tokens itself, the one that starts a text too.
  return ChatPrompt{.text = *std::move(text), .stop = {}, .add_start = false};
}

ApiResult<ChatPrompt> ChatForm::continuation(const Conversation& conversation, bool ask,
                                             const std::optional<std::string>& before) const {
  if (!set_) {
    // The functions were shown at the beginning.
    Conversation rest = conversation;
    rest.tools_json.clear();
    return plain_chat_prompt(spell_out_calls(rest, "tool"), ask, true);
  }
  const Fitted& chosen = fitted(conversation);
  // A conversation with a needle in its last message stands for the one behind the state: what the template writes
  // behind the needle closes that message, and what follows is the text for the messages to come.
  Json prior = Json::array({{{"role", "user"}, {"content", kNeedle}}});
  if (!conversation.messages.empty() && conversation.messages.front().role != "assistant") {
    prior[0]["content"] = "?";
    prior.push_back({{"role", "assistant"}, {"content", kNeedle}});
  }
  Conversation rest = conversation;
  if (!chosen.knows_tools) rest.tools_json.clear();  // they were shown at the beginning
  const auto alone = render(chosen, rest, dump(prior), false, false);
  if (!alone) return std::unexpected(refusal(alone.error()));
  const auto whole = render(chosen, rest, dump(prior), true, ask);
  if (!whole) return std::unexpected(refusal(whole.error()));
  if (count(*alone, kNeedle) != 1 || count(*whole, kNeedle) != 1) {
    return std::unexpected(ApiError{
        .message = "state: the model's template does not show each message once, so nothing can follow a kept state",
        .param = "state",
        .code = "chat_template_error"});
  }
  const std::string close = alone->substr(alone->find(kNeedle) + kNeedle.size());
  std::string text = whole->substr(whole->find(kNeedle) + kNeedle.size());
  if (before && !close.empty() && before->ends_with(close) && text.starts_with(close)) text.erase(0, close.size());
  return ChatPrompt{.text = std::move(text), .stop = {}, .add_start = false};
}

}  // namespace krait::server
