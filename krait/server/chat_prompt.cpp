#include "krait/server/chat_prompt.h"

namespace krait::server {

ChatPrompt plain_chat_prompt(std::span<const ChatMessage> messages, bool ask, bool goes_on) {
  ChatPrompt prompt;
  if (goes_on) prompt.text.push_back('\n');
  for (const ChatMessage& message : messages) {
    prompt.text += message.role == "developer" ? "system" : message.role;
    prompt.text.append(": ").append(message.content).append("\n");
  }
  // Without a space: tokenizers have it at the beginning of the word that follows.
  if (ask) prompt.text += "assistant:";
  // What follows a kept state begins with the line break itself.
  if (!ask && prompt.text.ends_with('\n')) prompt.text.pop_back();
  prompt.stop = {"\nuser:", "\nsystem:", "\nassistant:"};
  return prompt;
}

std::vector<ChatMessage> spell_out_calls(const Conversation& conversation, const std::string& result_role) {
  std::vector<ChatMessage> messages;
  if (!conversation.tools_json.empty()) {
    messages.push_back({"system", tool_instructions(conversation.tools_json)});
  }
  for (const ChatMessage& message : conversation.messages) {
    const bool is_system = message.role == "system" || message.role == "developer";
    if (is_system && messages.size() == 1 && !conversation.tools_json.empty() &&
        &message == &conversation.messages[0]) {
      messages.front().content = message.content + "\n\n" + messages.front().content;
      continue;
    }
    ChatMessage changed{message.role, message.content};
    for (const ToolCall& call : message.calls) {
      if (!changed.content.empty()) changed.content += "\n";
      changed.content += generic_call(call);
    }
    if (message.role == "tool") {
      changed.role = result_role;
      if (result_role != "tool") {
        changed.content = "<tool_response>\n" + message.content + "\n</tool_response>";
      }
    }
    messages.push_back(std::move(changed));
  }
  return messages;
}

}  // namespace krait::server
