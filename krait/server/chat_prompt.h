// A conversation as the text that a model reads. A model without a template of its own gets the plain form:
//
//   system: You are brief.
//   user: Hello!
//   assistant:
//
// where a reply ends before the next "user:" line.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "krait/server/conversation.h"

namespace krait::server {

struct ChatPrompt {
  std::string text;
  std::vector<std::string> stop;  // what the form itself ends a reply with
  bool add_start = true;          // whether the token that starts a text goes before it
};

// `ask`: the assistant is to speak next. `goes_on`: the text follows a reply that was not ended by a line break.
// Calls of functions and what came of them stand in it as `spell_out_calls` has them.
ChatPrompt plain_chat_prompt(std::span<const ChatMessage> messages, bool ask, bool goes_on);

// For a model, or a template, that knows no functions: instructions for the system, calls as text of the assistant, and
// what came of them as the message of `result_role`.
std::vector<ChatMessage> spell_out_calls(const Conversation& conversation, const std::string& result_role);

}  // namespace krait::server
