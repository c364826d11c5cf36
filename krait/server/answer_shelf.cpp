#include "krait/server/answer_shelf.h"

#include <fmt/format.h>

namespace krait::server {

std::uint64_t KeptAnswer::bytes() const {
  std::uint64_t sum = sizeof(KeptAnswer) + body.size() + instructions.size() + tokens.size() * sizeof(tokens[0]);
  sum += conversation.messages_json.size() + conversation.tools_json.size() + conversation.variables_json.size();
  for (const ChatMessage& message : conversation.messages) sum += sizeof(ChatMessage) + message.content.size();
  for (const ToolDefinition& tool : conversation.tools.tools) sum += sizeof(ToolDefinition) + tool.parameters.size();
  return sum;
}

void AnswerShelf::erase(std::map<std::string, Answers::iterator>::iterator place) {
  bytes_ -= (*place->second)->bytes();
  answers_.erase(place->second);
  places_.erase(place);
}

void AnswerShelf::put(KeptAnswer answer) {
  const std::lock_guard lock(mutex_);
  if (answer.bytes() > capacity_) return;
  if (const auto found = places_.find(answer.id); found != places_.end()) erase(found);
  bytes_ += answer.bytes();
  answers_.push_front(std::make_shared<const KeptAnswer>(std::move(answer)));
  places_.emplace(answers_.front()->id, answers_.begin());
  while (bytes_ > capacity_) erase(places_.find(answers_.back()->id));
}

ApiResult<std::shared_ptr<const KeptAnswer>> AnswerShelf::find(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(id);
  if (found == places_.end() || (*found->second)->owner != owner) {
    return std::unexpected(error_of_status(404, fmt::format("there is no answer \"{}\"", id)));
  }
  answers_.splice(answers_.begin(), answers_, found->second);
  return *found->second;
}

bool AnswerShelf::drop(const std::string& id, const std::string& owner) {
  const std::lock_guard lock(mutex_);
  const auto found = places_.find(id);
  if (found == places_.end() || (*found->second)->owner != owner) return false;
  erase(found);
  return true;
}

}  // namespace krait::server
