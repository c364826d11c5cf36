// How the model that is served reads a conversation: by the chat template it brings, or in the plain form
// (chat_prompt.h). A template is tried once, with small conversations, to learn what it wants to be given: contents as
// texts or as parts, arguments of calls as objects or as text.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "krait/formats/chat_template.h"
#include "krait/server/api_error.h"
#include "krait/server/chat_prompt.h"
#include "krait/server/conversation.h"
#include "krait/server/tool_form.h"

namespace krait::server {

// Thread-safe: nothing of it changes.
class ChatForm {
 public:
  ChatForm() = default;  // the plain form
  // kNotFound when the set has no template to choose.
  static Result<ChatForm> of(formats::ChatTemplateSet set);

  bool has_template() const { return set_.has_value(); }
  const ToolForm& tool_form(const Conversation& conversation) const;

  // `ask`: the assistant is to speak next. Errors are 400 and name "messages".
  ApiResult<ChatPrompt> prompt(const Conversation& conversation, bool ask) const;
  // What follows a kept state. `before`: the end of the text behind which the state is, where it is known. The
  // assistant's turn that the text may have been cut in is closed first, as the template closes it; where the text ends
  // in that close already, it is not closed twice.
  ApiResult<ChatPrompt> continuation(const Conversation& conversation, bool ask,
                                     const std::optional<std::string>& before) const;

 private:
  // A template, and what it wants.
  struct Fitted {
    formats::ChatTemplate chosen;
    const ToolForm* form = nullptr;
    bool wants_parts = false;
    bool wants_text_arguments = false;
    bool knows_tools = false;
    bool knows_developers = false;
  };
  Fitted fit(const formats::ChatTemplate& chosen) const;
  const Fitted& fitted(const Conversation& conversation) const;
  // `prior`: messages that go first, as JSON.
  Result<std::string> render(const Fitted& fitted, const Conversation& conversation, const std::string& prior,
                             bool with_messages, bool ask) const;

  std::optional<formats::ChatTemplateSet> set_;
  std::array<std::optional<Fitted>, 2> fitted_;  // without tools, with tools
};

}  // namespace krait::server
