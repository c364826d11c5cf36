// Requests of /v1/responses.
#include "krait/server/openai_responses.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "krait/server/request_reading.h"

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

// A string, or parts that are texts, in a member of an item.
std::string text_of(JsonReader& item, const char* member) {
  if (item.kind(member) != JsonReader::Kind::array) return item.text(member).value_or("");
  std::string text;
  for (JsonReader& part : item.objects(member)) {
    const std::string type = part.text("type").value_or("");
    if (type != "input_text" && type != "output_text" && type != "text") {
      part.complain("type",
                    fmt::format("must be input_text or output_text, not \"{}\": the model reads nothing else", type));
    }
    text += part.text("text").value_or("");
  }
  return text;
}

void add(Conversation& conversation, Json& messages, ChatMessage message, const std::string& call_id = {}) {
  Json json = {{"role", message.role}, {"content", message.content}};
  if (!call_id.empty()) json["tool_call_id"] = call_id;
  messages.push_back(std::move(json));
  conversation.messages.push_back(std::move(message));
}

// Calls that follow one another, or the assistant's text, are one message.
void add_call(Conversation& conversation, Json& messages, ToolCall call) {
  if (conversation.messages.empty() || conversation.messages.back().role != "assistant") {
    add(conversation, messages, {"assistant", ""});
  }
  messages.back()["tool_calls"].push_back(
      {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  conversation.messages.back().calls.push_back(std::move(call));
}

void read_item(JsonReader& item, Conversation& conversation, Json& messages) {
  const std::string type = item.text("type").value_or("message");
  if (type == "message") {
    const std::string role = item.text("role").value_or("");
    if (role != "system" && role != "developer" && role != "user" && role != "assistant") {
      item.complain("role", fmt::format("must be system, developer, user or assistant, not \"{}\"", role));
    }
    add(conversation, messages, {role, text_of(item, "content")});
  } else if (type == "function_call") {
    ToolCall call{item.text("call_id").value_or(""), item.text("name").value_or(""),
                  item.text("arguments").value_or("{}")};
    if (call.name.empty()) item.complain("name", "is missing", "missing_required_parameter");
    add_call(conversation, messages, std::move(call));
  } else if (type == "function_call_output") {
    const std::string id = item.text("call_id").value_or("");
    if (id.empty()) item.complain("call_id", "is missing", "missing_required_parameter");
    add(conversation, messages, {"tool", text_of(item, "output")}, id);
  } else {
    item.complain("type",
                  fmt::format("\"{}\" is not supported: message, function_call and function_call_output are", type),
                  "unsupported_parameter");
  }
}

void read_input(JsonReader& body, Conversation& conversation) {
  Json messages = Json::array();
  if (body.kind("input") == JsonReader::Kind::array) {
    for (JsonReader& item : body.objects("input")) read_item(item, conversation, messages);
  } else if (body.kind("input") == JsonReader::Kind::text) {
    add(conversation, messages, {"user", body.text("input").value_or("")});
  } else if (body.has("input")) {
    body.complain("input", "must be a string or an array of items");
  }
  if (conversation.messages.empty()) body.complain("input", "is missing or empty", "missing_required_parameter");
  conversation.messages_json = dump(messages);
}

// A function is the tool itself here; templates are given the shape of chats.
void read_response_tools(JsonReader& body, Conversation& conversation) {
  Json tools = Json::array();
  for (JsonReader& reader : body.objects("tools")) {
    if (const std::string type = reader.text("type").value_or(""); type != "function") {
      reader.complain("type", fmt::format("\"{}\" is not supported: function is", type), "unsupported_parameter");
      return;
    }
    ToolDefinition tool = read_function(reader);
    Json function = {{"name", tool.name}};
    if (!tool.description.empty()) function["description"] = tool.description;
    function["parameters"] = tool.parameters.empty() ? Json({{"type", "object"}, {"properties", Json::object()}})
                                                     : Json::parse(tool.parameters);
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
    conversation.tools.tools.push_back(std::move(tool));
  }
  if (!read_tool_choice(body, conversation.tools)) {
    conversation.tools = {};
  } else if (!conversation.tools.tools.empty()) {
    conversation.tools_json = dump(tools);
  }
}

Json array_of(const std::string& json) { return json.empty() ? Json::array() : Json::parse(json); }

}  // namespace

ApiResult<ResponseRequest> parse_response_request(std::string_view text, const RequestLimits& limits) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  ResponseRequest request;
  request.model = body.text("model").value_or("");
  GenerationParameters& parameters = request.parameters;
  read_parameters(body, limits, parameters);
  parameters.max_tokens = body.integer("max_output_tokens", 1, limits.most_tokens).value_or(limits.default_tokens);
  if (auto shape = body.object("text")) {
    if (auto format = shape->object("format")) {
      if (parameters.structured.kind != StructuredOutput::Kind::none) {
        format->complain("", fmt::format("cannot stand beside {}", parameters.structured.member));
      }
      parameters.structured.member = "text.format";
      read_format(*format, *format, parameters.structured);
    }
  }
  request.instructions = body.text("instructions").value_or("");
  request.previous = body.text("previous_response_id").value_or("");
  request.store = body.boolean("store").value_or(true);
  read_input(body, request);
  read_response_tools(body, request);
  if (body.object("chat_template_kwargs")) request.variables_json = body.dump("chat_template_kwargs");
  for (const char* member :
       {"conversation", "prompt", "reasoning", "top_logprobs", "state", "return_state", "best_of"}) {
    if (body.has(member)) body.complain(member, "is not supported here", "unsupported_parameter");
  }
  if (parameters.n > 1) body.complain("n", "is not supported here", "unsupported_parameter");
  if (body.boolean("background").value_or(false)) {
    body.complain("background", "is not supported", "unsupported_parameter");
  }
  if (const std::string truncation = body.text("truncation").value_or("disabled"); truncation != "disabled") {
    body.complain("truncation", fmt::format("must be disabled, not \"{}\"", truncation), "unsupported_parameter");
  }
  Json echo = {{"max_output_tokens", body.has("max_output_tokens") ? Json(parameters.max_tokens) : Json(nullptr)},
               {"temperature", parameters.sampler.temperature},
               {"top_p", parameters.sampler.top_p},
               {"parallel_tool_calls", request.tools.parallel},
               {"store", request.store}};
  for (const auto& [member, otherwise] :
       {std::pair("tools", "[]"), std::pair("tool_choice", "\"auto\""), std::pair("metadata", "{}"),
        std::pair("text", R"({"format": {"type": "text"}})")}) {
    echo[member] = Json::parse(body.has(member) ? body.dump(member) : otherwise);
  }
  request.echo = dump(echo);
  if (body.error()) return std::unexpected(*body.error());
  return request;
}

Conversation joined(const Conversation& conversation, const Conversation& more) {
  Conversation both = more;
  both.messages = conversation.messages;
  both.messages.insert(both.messages.end(), more.messages.begin(), more.messages.end());
  Json messages = array_of(conversation.messages_json);
  const Json behind = array_of(more.messages_json);
  messages.insert(messages.end(), behind.begin(), behind.end());
  both.messages_json = dump(messages);
  return both;
}

Conversation with_instructions(const Conversation& conversation, const std::string& instructions) {
  if (instructions.empty()) return conversation;
  Conversation system;
  Json messages = Json::array();
  add(system, messages, {"system", instructions});
  system.messages_json = dump(messages);
  return joined(system, conversation);
}

Conversation with_reply(const Conversation& conversation, const SequenceResult& reply) {
  Conversation whole = conversation;
  Json messages = array_of(conversation.messages_json);
  add(whole, messages, {"assistant", reply.text});
  for (const ToolCall& call : reply.calls) add_call(whole, messages, call);
  whole.messages_json = dump(messages);
  return whole;
}

}  // namespace krait::server
