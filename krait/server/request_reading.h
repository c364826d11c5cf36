// Members that requests of several routes have in common, read from their JSON.
#pragma once

#include <string>

#include "krait/server/conversation.h"
#include "krait/server/generation_parameters.h"
#include "krait/server/json_reader.h"

namespace krait::server {

// What completions, chats and responses have in common: the sampler's options, "stop", "n", "stream", and so on.
void read_parameters(JsonReader& body, const RequestLimits& limits, GenerationParameters& parameters);
// {"type": "json_schema", …} and what it means; `where` names the member that holds the schema.
void read_format(JsonReader& format, JsonReader& schema_holder, StructuredOutput& structured);

// "messages", with their tool calls, and "chat_template_kwargs".
void read_conversation(JsonReader& body, Conversation& conversation);
// "tools", "tool_choice" and "parallel_tool_calls" of chats. A function stands in its member "function".
void read_tools(JsonReader& body, Conversation& conversation);

// Of one function: its name, its description, and the schema of its parameters.
ToolDefinition read_function(JsonReader& function);
// "auto", "none", "required", or one function: {"type": "function", …}. False: the model is told of none.
bool read_tool_choice(JsonReader& body, ToolUse& tools);

}  // namespace krait::server
