#include "krait/server/ollama_api.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace krait::server {
namespace {

using nlohmann::json;

TEST(OllamaRequests, StreamUnlessToldNotTo) {
  const auto request = parse_ollama_generate(R"({"model": "m", "prompt": "p", "options": {"num_predict": 7, "seed": 3,
      "temperature": 0, "stop": ["\n"], "top_k": 5}})",
                                             {});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_TRUE(request->parameters.stream);
  EXPECT_EQ(request->parameters.max_tokens, 7);
  EXPECT_EQ(request->parameters.seed, 3u);
  EXPECT_EQ(request->parameters.sampler.temperature, 0.0F);
  EXPECT_EQ(request->parameters.sampler.top_k, 5);
  EXPECT_EQ(request->parameters.stop, std::vector<std::string>{"\n"});
  EXPECT_FALSE(parse_ollama_generate(R"({"prompt": "p", "stream": false})", {})->parameters.stream);
}

TEST(OllamaRequests, WhatIsNotSupportedIsNamed) {
  for (const auto& [body, member] : std::vector<std::pair<std::string, std::string>>{
           {R"({"prompt": "p", "images": ["x"]})", "images"},
           {R"({"prompt": "p", "context": [1]})", "context"},
           {R"({"prompt": "p", "suffix": "s"})", "suffix"},
           {R"({"prompt": "p", "options": {"temperature": -1}})", "options.temperature"},
           {R"({"prompt": "p", "format": "xml"})", "format"},
       }) {
    const auto request = parse_ollama_generate(body, {});
    ASSERT_FALSE(request) << body;
    EXPECT_EQ(request.error().param, member);
  }
  EXPECT_FALSE(parse_ollama_chat(R"({"messages": []})", {}));
}

TEST(OllamaAnswers, AStreamIsLinesOfJson) {
  const auto format = ollama_chat_format("m", 0);
  SequenceResult result;
  result.generated_tokens = 2;
  result.prompt_tokens = 4;
  const json piece = json::parse(format->piece(0, "Hi", {}));
  EXPECT_EQ(piece["message"]["content"], "Hi");
  EXPECT_EQ(piece["created_at"], "1970-01-01T00:00:00Z");
  EXPECT_FALSE(piece["done"].get<bool>());
  const std::string closing = format->closing(0, result);
  EXPECT_EQ(closing.find('\n'), closing.size() - 1);
  const json last = json::parse(closing);
  EXPECT_TRUE(last["done"].get<bool>());
  EXPECT_EQ(last["eval_count"], 2);
  EXPECT_EQ(last["prompt_eval_count"], 4);
  EXPECT_EQ(last["done_reason"], "length");
  EXPECT_EQ(json::parse(ollama_error_body({.message = "no"}))["error"], "no");
}

}  // namespace
}  // namespace krait::server
