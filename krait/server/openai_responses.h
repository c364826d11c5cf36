// OpenAI's responses as structs: /v1/responses, for texts and calls of functions. Its items become the messages of a
// chat; its stream has events with names.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "krait/server/answer_format.h"
#include "krait/server/api_error.h"
#include "krait/server/conversation.h"
#include "krait/server/generation_parameters.h"

namespace krait::server {

struct ResponseRequest : Conversation {
  std::string model;
  std::string instructions;
  std::string previous;  // id of the response that this one goes on from
  bool store = true;
  std::string echo;  // members of the request that answers repeat, as a JSON object
  GenerationParameters parameters;
};

ApiResult<ResponseRequest> parse_response_request(std::string_view body, const RequestLimits& limits);

// `more` behind `conversation`; functions and variables are those of `more`.
Conversation joined(const Conversation& conversation, const Conversation& more);
// With a message of the system before all others, where there are instructions.
Conversation with_instructions(const Conversation& conversation, const std::string& instructions);
// With the assistant's reply behind all others.
Conversation with_reply(const Conversation& conversation, const SequenceResult& reply);

struct ResponseHead {
  std::string id;  // "resp_…"
  std::int64_t created = 0;
  std::string model;
  std::string previous;
  std::string instructions;
  std::string echo;
};
std::unique_ptr<AnswerFormat> response_format(ResponseHead head);
std::string response_deleted_body(const std::string& id);

}  // namespace krait::server
