// OpenAI's requests and answers as structs: reading and writing JSON, and nothing else. What a request asks that this
// server does not do is refused with the member's name, never ignored where that would change the answer.
//
// Members beyond OpenAI's: top_k, min_p, repetition_penalty, ignore_eos, guided_json, guided_regex, guided_choice,
// chat_template_kwargs, priority, state, return_state.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/server/answer_format.h"
#include "krait/server/api_error.h"
#include "krait/server/conversation.h"
#include "krait/server/generation_parameters.h"
#include "krait/server/prompt_input.h"

namespace krait::server {

struct CompletionRequest {
  std::string model;  // empty: not named
  std::vector<PromptInput> prompts;
  bool echo = false;
  GenerationParameters parameters;
};

struct ChatRequest : Conversation {
  std::string model;
  GenerationParameters parameters;
};

// {"text": …}, {"messages": […]} or {"response_id": …}, of which the state is to be kept.
struct StateRequest : Conversation {
  std::string text;
  std::string response_id;
  std::string state;  // goes on from this one
  std::optional<double> ttl_seconds;
};

struct TokenizeRequest {
  std::string text;
  bool add_special = true;
};

ApiResult<CompletionRequest> parse_completion_request(std::string_view body, const RequestLimits& limits);
ApiResult<ChatRequest> parse_chat_request(std::string_view body, const RequestLimits& limits);
ApiResult<StateRequest> parse_state_request(std::string_view body);
ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view body);
ApiResult<std::vector<formats::TokenId>> parse_detokenize_request(std::string_view body);

// Of one model, in the shapes of /v1/models and /v1/models/{id}.
std::string model_body(const std::string& name, std::int64_t created);
std::string models_body(const std::string& name, std::int64_t created);
std::string tokens_body(std::span<const formats::TokenId> tokens);
std::string text_body(std::string_view text);

struct AnswerHead {
  std::string id;  // "chatcmpl-…"
  std::int64_t created = 0;
  std::string model;
  bool include_usage = false;
};
std::unique_ptr<AnswerFormat> completion_format(AnswerHead head);
std::unique_ptr<AnswerFormat> chat_format(AnswerHead head);

}  // namespace krait::server
