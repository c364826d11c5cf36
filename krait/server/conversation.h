// A conversation as a request gives it: twice, since templates want the JSON as it was sent, and the plain form wants
// roles and texts.
#pragma once

#include <string>
#include <vector>

#include "krait/server/tool_form.h"

namespace krait::server {

struct ChatMessage {
  std::string role;
  std::string content;
  std::vector<ToolCall> calls = {};  // of the assistant's
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::string messages_json;   // an array
  std::string tools_json;      // an array; empty: the model is told of no functions
  std::string variables_json;  // an object: what else the template is given; may be empty
  ToolUse tools;
};

}  // namespace krait::server
