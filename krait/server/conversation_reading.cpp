// Messages and functions of a chat's request.
#include <fmt/format.h>

#include <algorithm>

#include "krait/server/request_reading.h"

namespace krait::server {
namespace {

constexpr std::size_t kLongestName = 64;
constexpr std::size_t kMostTools = 128;

bool fit_for_name(const std::string& name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= kLongestName && name.find_first_not_of(kAllowed) == std::string::npos;
}

// Parts of a content that are texts; complains about all others.
std::string text_of_parts(JsonReader& message) {
  std::string text;
  for (JsonReader& part : message.objects("content")) {
    const std::string type = part.text("type").value_or("");
    if (type != "text") {
      part.complain("type", fmt::format("must be text, not \"{}\": the model reads nothing else", type));
    }
    text += part.text("text").value_or("");
  }
  return text;
}

ToolCall read_call(JsonReader& call) {
  ToolCall out;
  out.id = call.text("id").value_or("");
  if (const std::string type = call.text("type").value_or("function"); type != "function") {
    call.complain("type", fmt::format("must be function, not \"{}\"", type));
  }
  auto function = call.object("function");
  if (!function) {
    call.complain("function", "is missing", "missing_required_parameter");
    return out;
  }
  out.name = function->text("name").value_or("");
  if (out.name.empty()) function->complain("name", "is missing", "missing_required_parameter");
  // A string that holds JSON in OpenAI's API, an object in Ollama's.
  out.arguments = function->kind("arguments") == JsonReader::Kind::object ? function->dump("arguments")
                                                                          : function->text("arguments").value_or("");
  if (out.arguments.empty()) out.arguments = "{}";
  return out;
}

}  // namespace

void read_conversation(JsonReader& body, Conversation& conversation) {
  for (JsonReader& reader : body.objects("messages")) {
    ChatMessage message;
    message.role = reader.text("role").value_or("");
    if (message.role != "system" && message.role != "developer" && message.role != "user" &&
        message.role != "assistant" && message.role != "tool") {
      reader.complain("role",
                      fmt::format("must be system, developer, user, assistant or tool, not \"{}\"", message.role));
    }
    message.content =
        reader.kind("content") == JsonReader::Kind::array ? text_of_parts(reader) : reader.text("content").value_or("");
    if (reader.has("tool_calls") && message.role != "assistant") {
      reader.complain("tool_calls", fmt::format("are the assistant's, not those of \"{}\"", message.role));
    }
    for (JsonReader& call : reader.objects("tool_calls")) message.calls.push_back(read_call(call));
    conversation.messages.push_back(std::move(message));
  }
  conversation.messages_json = body.dump("messages");
  if (body.object("chat_template_kwargs")) conversation.variables_json = body.dump("chat_template_kwargs");
}

ToolDefinition read_function(JsonReader& function) {
  ToolDefinition tool;
  tool.name = function.text("name").value_or("");
  tool.description = function.text("description").value_or("");
  if (!fit_for_name(tool.name)) {
    function.complain("name", fmt::format("\"{}\" is no name of a function: letters, digits, _ - and . are, at most {}",
                                          tool.name, kLongestName));
  }
  if (function.object("parameters")) tool.parameters = function.dump("parameters");
  function.boolean("strict");
  return tool;
}

bool read_tool_choice(JsonReader& body, ToolUse& tools) {
  tools.parallel = body.boolean("parallel_tool_calls").value_or(true);
  if (body.kind("tool_choice") == JsonReader::Kind::object) {
    auto choice = body.object("tool_choice");
    const std::string type = choice->text("type").value_or("");
    if (type != "function") {
      choice->complain("type", fmt::format("must be function, not \"{}\"", type), "unsupported_parameter");
      return false;
    }
    auto function = choice->object("function");
    JsonReader& holder = function ? *function : *choice;
    tools.required = true;
    tools.only = holder.text("name").value_or("");
    if (tools.find(tools.only) == nullptr) {
      holder.complain("name", fmt::format("\"{}\" is not among the tools", tools.only));
    }
    return true;
  }
  const std::string choice = body.text("tool_choice").value_or("auto");
  if (choice != "auto" && choice != "none" && choice != "required") {
    body.complain("tool_choice", fmt::format("must be auto, none, required or a function, not \"{}\"", choice));
  }
  tools.required = choice == "required";
  if (tools.required && tools.tools.empty()) body.complain("tool_choice", "is required, and there are no tools");
  return choice != "none";
}

void read_tools(JsonReader& body, Conversation& conversation) {
  for (const char* old : {"functions", "function_call"}) {
    if (body.has(old)) body.complain(old, "is not supported: \"tools\" has replaced it", "unsupported_parameter");
  }
  ToolUse& tools = conversation.tools;
  for (JsonReader& reader : body.objects("tools")) {
    if (const std::string type = reader.text("type").value_or(""); type != "function") {
      reader.complain("type", fmt::format("must be function, not \"{}\"", type), "unsupported_parameter");
      return;
    }
    auto function = reader.object("function");
    if (!function) {
      reader.complain("function", "is missing", "missing_required_parameter");
      return;
    }
    ToolDefinition tool = read_function(*function);
    if (tools.find(tool.name) != nullptr) function->complain("name", fmt::format("\"{}\" is there twice", tool.name));
    tools.tools.push_back(std::move(tool));
  }
  if (tools.tools.size() > kMostTools) {
    body.complain("tools", fmt::format("holds {} functions; {} are allowed", tools.tools.size(), kMostTools));
  }
  if (!read_tool_choice(body, tools)) {
    tools = {};
  } else if (!tools.tools.empty()) {
    conversation.tools_json = body.dump("tools");
  }
}

}  // namespace krait::server
