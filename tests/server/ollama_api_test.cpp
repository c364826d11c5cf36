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

TEST(OllamaRequests, ToolsFormatsAndThinkingAreRead) {
  const auto request = parse_ollama_chat(R"({"messages": [{"role": "user", "content": "a"},
      {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
      {"role": "tool", "tool_name": "f", "content": "r"}],
      "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
      "format": {"type": "object"}, "think": false})",
                                         {});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->messages[1].calls.at(0).arguments, R"({"x":1})");
  EXPECT_EQ(request->tools.tools.at(0).name, "f");
  EXPECT_EQ(request->parameters.structured.kind, StructuredOutput::Kind::json_schema);
  EXPECT_EQ(request->parameters.structured.member, "format");
  EXPECT_EQ(request->variables_json, R"({"enable_thinking": false})");
}

TEST(OllamaAnswers, CallsAreShownWholeWithTheirArgumentsAsAnObject) {
  const auto format = ollama_chat_format("m", 0);
  SequenceResult result;
  result.calls = {{"id", "f", R"({"x":1})"}, {"id2", "cut", R"({"x":)"}};
  const json body = json::parse(format->whole({&result, 1}));
  ASSERT_EQ(body["message"]["tool_calls"].size(), 1u);
  EXPECT_EQ(body["message"]["tool_calls"][0]["function"], (json{{"name", "f"}, {"arguments", {{"x", 1}}}}));
  EXPECT_EQ(format->call(0, {.is_call = true, .begins = true}, result.calls[0]), "");
  const json line = json::parse(format->call(0, {.is_call = true, .ends = true}, result.calls[0]));
  EXPECT_EQ(line["message"]["tool_calls"][0]["function"]["arguments"]["x"], 1);
  EXPECT_FALSE(line["done"].get<bool>());
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
