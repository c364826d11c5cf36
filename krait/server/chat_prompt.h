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

#include "krait/server/openai_api.h"

namespace krait::server {

struct ChatPrompt {
  std::string text;
  std::vector<std::string> stop;  // what the form itself ends a reply with
  bool add_start = true;          // whether the token that starts a text goes before it
};

// `ask`: the assistant is to speak next. `goes_on`: the text follows a reply that was not ended by a line break.
ChatPrompt plain_chat_prompt(std::span<const ChatMessage> messages, bool ask, bool goes_on);

}  // namespace krait::server
