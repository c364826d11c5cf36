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

}  // namespace krait::server
