// Ollama's requests and answers as structs: /api/generate, /api/chat and /api/tags. Its streams are lines of JSON, and
// it streams unless it is told not to.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "krait/server/answer_format.h"
#include "krait/server/api_error.h"
#include "krait/server/generation_parameters.h"
#include "krait/server/openai_api.h"

namespace krait::server {

struct OllamaGenerateRequest {
  std::string model;
  std::string prompt;
  std::string system;
  bool raw = false;  // the prompt as it is, without the form of a chat
  GenerationParameters parameters;
};

ApiResult<OllamaGenerateRequest> parse_ollama_generate(std::string_view body, const RequestLimits& limits);
ApiResult<ChatRequest> parse_ollama_chat(std::string_view body, const RequestLimits& limits);

std::unique_ptr<AnswerFormat> ollama_generate_format(std::string model, std::int64_t created);
std::unique_ptr<AnswerFormat> ollama_chat_format(std::string model, std::int64_t created);

struct ModelCard {
  std::string name;
  std::string architecture;
  std::string weights;  // "int8"
  std::string digest;   // hash of the weights
  std::uint64_t bytes = 0;
  std::int64_t created = 0;
};
std::string ollama_tags_body(const ModelCard& card);
std::string ollama_version_body(const std::string& version);
std::string ollama_error_body(const ApiError& error);

}  // namespace krait::server
