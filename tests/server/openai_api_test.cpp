#include "krait/server/openai_api.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace krait::server {
namespace {

using nlohmann::json;
using Ids = std::vector<formats::TokenId>;

CompletionRequest completion(const std::string& body) {
  auto request = parse_completion_request(body, {});
  if (!request) throw std::runtime_error(request.error().message);
  return *std::move(request);
}

// The member that is complained about, and the whole complaint.
std::pair<std::string, std::string> complaint(const std::string& body) {
  const auto request = parse_completion_request(body, {});
  return request ? std::pair<std::string, std::string>("none", "")
                 : std::pair(request.error().param, request.error().message);
}

std::pair<std::string, std::string> chat_complaint(const std::string& body) {
  const auto request = parse_chat_request(body, {});
  return request ? std::pair<std::string, std::string>("none", "")
                 : std::pair(request.error().param, request.error().message);
}

TEST(OpenAiRequests, DefaultsAreOpenAis) {
  const CompletionRequest request = completion(R"({"prompt": "a"})");
  EXPECT_EQ(request.parameters.max_tokens, 16);
  EXPECT_EQ(request.parameters.sampler.temperature, 1.0F);
  EXPECT_EQ(request.parameters.sampler.top_p, 1.0F);
  EXPECT_EQ(request.parameters.sampler.top_k, 0);
  EXPECT_EQ(request.parameters.n, 1);
  EXPECT_FALSE(request.parameters.stream);
  EXPECT_FALSE(request.parameters.seed);
  EXPECT_FALSE(request.parameters.logprobs);
}

TEST(OpenAiRequests, AnEchoHasLogprobsOfThePromptWhereThereAreAny) {
  EXPECT_EQ(completion(R"({"prompt": "a", "echo": true, "logprobs": 3})").parameters.prompt_logprobs, 3);
  EXPECT_FALSE(completion(R"({"prompt": "a", "echo": true})").parameters.prompt_logprobs);
  EXPECT_FALSE(completion(R"({"prompt": "a", "logprobs": 3})").parameters.prompt_logprobs);
}

TEST(OpenAiRequests, MembersAreRead) {
  const CompletionRequest request = completion(R"({
    "model": "m", "prompt": "a", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "n": 2, "best_of": 3,
    "stop": ["x", "y"], "seed": -1, "logprobs": 4, "logit_bias": {"12": -100, "7": 2.5}, "presence_penalty": 1,
    "frequency_penalty": -1, "state": "st_1", "return_state": false, "user": "u"})");
  const GenerationParameters& p = request.parameters;
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(p.max_tokens, 3);
  EXPECT_EQ(p.sampler.temperature, 0.5F);
  EXPECT_EQ(p.sampler.top_k, 7);
  EXPECT_EQ(p.n, 2);
  EXPECT_EQ(p.best_of, 3);
  EXPECT_EQ(p.stop, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(p.seed, ~std::uint64_t{0});
  EXPECT_EQ(p.logprobs, 4);
  ASSERT_EQ(p.sampler.logit_bias.size(), 2u);
  EXPECT_EQ(p.sampler.logit_bias[0], (std::pair<formats::TokenId, float>(12, -100.0F)));
  EXPECT_EQ(p.state, "st_1");
}

TEST(OpenAiRequests, PromptsComeAsTextsOrTokens) {
  EXPECT_EQ(std::get<std::string>(completion(R"({"prompt": "a"})").prompts.at(0)), "a");
  EXPECT_EQ(completion(R"({"prompt": ["a", "b"]})").prompts.size(), 2u);
  EXPECT_EQ(std::get<Ids>(completion(R"({"prompt": [1, 2]})").prompts.at(0)), (Ids{1, 2}));
  const auto several = completion(R"({"prompt": [[1], [2, 3]]})").prompts;
  ASSERT_EQ(several.size(), 2u);
  EXPECT_EQ(std::get<Ids>(several[1]), (Ids{2, 3}));
  EXPECT_EQ(complaint(R"({"prompt": [1, "a"]})").first, "prompt");
  EXPECT_EQ(complaint(R"({"prompt": [-1]})").first, "prompt");
  EXPECT_EQ(complaint(R"({"prompt": {}})").first, "prompt");
  EXPECT_EQ(complaint(R"({})").first, "prompt");
  EXPECT_EQ(complaint(R"({"state": "st_1"})").first, "none");
}

TEST(OpenAiRequests, TheMemberThatIsWrongIsNamed) {
  for (const auto& [body, member] : std::vector<std::pair<std::string, std::string>>{
           {R"({"prompt": "a", "temperature": -1})", "temperature"},
           {R"({"prompt": "a", "temperature": "hot"})", "temperature"},
           {R"({"prompt": "a", "top_p": 1.5})", "top_p"},
           {R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens"},
           {R"({"prompt": "a", "max_tokens": 99999999})", "max_tokens"},
           {R"({"prompt": "a", "n": 0})", "n"},
           {R"({"prompt": "a", "n": 3, "best_of": 2})", "best_of"},
           {R"({"prompt": "a", "best_of": 2, "stream": true})", "best_of"},
           {R"({"prompt": "a", "best_of": 2, "return_state": true})", "return_state"},
           {R"({"prompt": "a", "stop": [1]})", "stop"},
           {R"({"prompt": "a", "logit_bias": {"x": 1}})", "logit_bias"},
           {R"({"prompt": "a", "logit_bias": {"1": 101}})", "logit_bias.1"},
           {R"({"prompt": "a", "suffix": "b"})", "suffix"},
           {R"({"prompt": "a", "stream_options": {"include_usage": true}})", "stream_options"},
           {R"({"prompt": "a", "response_format": {"type": "xml"}})", "response_format.type"},
       }) {
    EXPECT_EQ(complaint(body).first, member) << body;
    EXPECT_NE(complaint(body).second.find(member), std::string::npos) << body;
  }
}

TEST(OpenAiRequests, WhatIsNoJsonIsRefused) {
  for (const std::string& body :
       {std::string("{"), std::string(""), std::string("[]"), std::string("{} {}"),
        std::string("{\"prompt\": \"\xff\"}"), std::string(200, '['), std::string("{\"top_p\": 1e999}")}) {
    const auto request = parse_completion_request(body, {});
    ASSERT_FALSE(request) << body;
    EXPECT_EQ(request.error().code, "malformed_json") << body;
    EXPECT_EQ(request.error().status, 400);
  }
  const auto deep =
      parse_completion_request(R"({"prompt": "a", "x": )" + std::string(100, '[') + std::string(100, ']') + "}", {});
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().message.find("nested"), std::string::npos);
}

TEST(OpenAiRequests, ChatsHaveRolesAndTexts) {
  const auto request = parse_chat_request(
      R"({"messages": [{"role": "system", "content": "s"},
                       {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
          "max_completion_tokens": 5, "max_tokens": 9, "logprobs": true, "top_logprobs": 2,
          "stream": true, "stream_options": {"include_usage": true}})",
      {});
  ASSERT_TRUE(request) << request.error().message;
  ASSERT_EQ(request->messages.size(), 2u);
  EXPECT_EQ(request->messages[1].content, "ab");
  EXPECT_EQ(request->parameters.max_tokens, 5);
  EXPECT_EQ(request->parameters.logprobs, 2);
  EXPECT_TRUE(request->parameters.include_usage);
  EXPECT_EQ(chat_complaint(R"({"messages": []})").first, "messages");
  EXPECT_EQ(chat_complaint(R"({"messages": [3]})").first, "messages[0]");
  EXPECT_EQ(chat_complaint(R"({"messages": [{"role": "king", "content": "a"}]})").first, "messages[0].role");
  EXPECT_EQ(chat_complaint(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})").first,
            "messages[0].content[0].type");
  EXPECT_EQ(chat_complaint(R"({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 1})").first,
            "top_logprobs");
}

// A chat of one message with these members more.
std::string chat_with(const std::string& members) {
  return R"({"messages": [{"role": "user", "content": "a"}], )" + members + "}";
}

TEST(OpenAiRequests, ToolsAreRead) {
  const std::string tools = R"("tools": [{"type": "function", "function": {"name": "f", "description": "d",
      "parameters": {"type": "object"}, "strict": true}}, {"type": "function", "function": {"name": "g"}}])";
  const auto request = parse_chat_request(chat_with(tools), {});
  ASSERT_TRUE(request) << request.error().message;
  ASSERT_EQ(request->tools.tools.size(), 2u);
  EXPECT_EQ(request->tools.tools[0].name, "f");
  EXPECT_EQ(request->tools.tools[0].parameters, R"({"type":"object"})");
  EXPECT_FALSE(request->tools.required);
  EXPECT_TRUE(request->tools.parallel);
  EXPECT_TRUE(request->tools_json.starts_with(R"([{"type":"function")"));
  const auto named = parse_chat_request(
      chat_with(tools +
                R"(, "tool_choice": {"type": "function", "function": {"name": "g"}}, "parallel_tool_calls": false)"),
      {});
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_TRUE(named->tools.required);
  EXPECT_EQ(named->tools.only, "g");
  EXPECT_FALSE(named->tools.parallel);
  const auto none = parse_chat_request(chat_with(tools + R"(, "tool_choice": "none")"), {});
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->tools.tools.empty());
  EXPECT_TRUE(none->tools_json.empty());
  for (
      const auto& [members, member] : std::vector<std::pair<std::string, std::string>>{
          {R"("tools": [{}])", "tools[0].type"},
          {R"("tools": [{"type": "web_search"}])", "tools[0].type"},
          {R"("tools": [{"type": "function"}])", "tools[0].function"},
          {R"("tools": [{"type": "function", "function": {"name": "a b"}}])", "tools[0].function.name"},
          {R"("tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}])",
           "tools[0].function.parameters"},
          {R"("tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "a"}}])",
           "tools[1].function.name"},
          {tools + R"(, "tool_choice": "any")", "tool_choice"},
          {tools + R"(, "tool_choice": {"type": "function", "function": {"name": "h"}})", "tool_choice.function.name"},
          {tools + R"(, "tool_choice": {"type": "allowed_tools"})", "tool_choice.type"},
          {R"("tool_choice": "required")", "tool_choice"},
          {R"("functions": [{"name": "f"}])", "functions"},
      }) {
    EXPECT_EQ(chat_complaint(chat_with(members)).first, member) << members;
  }
}

TEST(OpenAiRequests, MessagesMayHoldCallsAndWhatCameOfThem) {
  const auto request = parse_chat_request(R"({"messages": [{"role": "user", "content": "a"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
        "function": {"name": "f", "arguments": "{}"}}]},
      {"role": "tool", "tool_call_id": "1", "content": "r"}]})",
                                          {});
  ASSERT_TRUE(request) << request.error().message;
  ASSERT_EQ(request->messages[1].calls.size(), 1u);
  EXPECT_EQ(request->messages[1].calls[0].name, "f");
  EXPECT_EQ(request->messages[1].content, "");
  EXPECT_EQ(chat_complaint(R"({"messages": [{"role": "user", "content": "", "tool_calls": []}]})").first,
            "messages[0].tool_calls");
  EXPECT_EQ(chat_complaint(R"({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]})").first,
            "messages[0].tool_calls[0].function");
}

TEST(OpenAiRequests, StructuredOutputIsRead) {
  using Kind = StructuredOutput::Kind;
  const auto structured = [](const std::string& members) {
    auto request = parse_chat_request(chat_with(members), {});
    if (!request) throw std::runtime_error(request.error().message);
    return request->parameters.structured;
  };
  EXPECT_EQ(structured(R"("response_format": {"type": "json_object"})").kind, Kind::json);
  EXPECT_EQ(structured(R"("response_format": {"type": "text"})").kind, Kind::none);
  const auto schema = structured(
      R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"const": 1}}})");
  EXPECT_EQ(schema.kind, Kind::json_schema);
  EXPECT_EQ(schema.text, R"({"const":1})");
  EXPECT_EQ(structured(R"("guided_json": {"const": 1})").text, R"({"const":1})");
  EXPECT_EQ(structured(R"("guided_json": "{\"const\": 1}")").text, R"({"const": 1})");
  EXPECT_EQ(structured(R"("guided_regex": "a+")").kind, Kind::regex);
  EXPECT_EQ(structured(R"("guided_choice": ["a", "b"])").choices, (std::vector<std::string>{"a", "b"}));
  for (const auto& [members, member] : std::vector<std::pair<std::string, std::string>>{
           {R"("response_format": {"type": "json_schema"})", "response_format.json_schema"},
           {R"("response_format": {"type": "json_schema", "json_schema": {"name": "n"}})",
            "response_format.json_schema.schema"},
           {R"("response_format": {"type": "json_object"}, "guided_regex": "a")", "guided_regex"},
           {R"("guided_choice": [])", "guided_choice"},
           {R"("guided_grammar": "root ::= a")", "guided_grammar"},
       }) {
    EXPECT_EQ(chat_complaint(chat_with(members)).first, member) << members;
  }
}

TEST(OpenAiRequests, StatesNeedOneOfTextAndMessages) {
  EXPECT_TRUE(parse_state_request(R"({"text": "a", "ttl_seconds": 5})"));
  EXPECT_TRUE(parse_state_request(R"({"messages": [{"role": "user", "content": "a"}]})"));
  EXPECT_FALSE(parse_state_request(R"({})"));
  EXPECT_FALSE(parse_state_request(R"({"text": "a", "messages": [{"role": "user", "content": "a"}]})"));
  EXPECT_FALSE(parse_state_request(R"({"text": "a", "ttl_seconds": -1})"));
  EXPECT_TRUE(parse_state_request(R"({"response_id": "resp_1"})"));
  EXPECT_FALSE(parse_state_request(R"({"response_id": "resp_1", "text": "a"})"));
  EXPECT_FALSE(parse_state_request(R"({"response_id": "resp_1", "state": "st_1"})"));
}

SequenceResult result_of(const std::string& text, runtime::FinishReason reason) {
  SequenceResult result;
  result.text = text;
  result.reason = reason;
  result.prompt_tokens = 5;
  result.reused_tokens = 2;
  result.generated_tokens = 3;
  return result;
}

TEST(OpenAiAnswers, ErrorsHaveTheirShape) {
  const json body = json::parse(error_body({.message = "m", .param = "p", .code = ""}));
  EXPECT_EQ(body["error"]["message"], "m");
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
  EXPECT_EQ(body["error"]["param"], "p");
  EXPECT_TRUE(body["error"]["code"].is_null());
}

TEST(OpenAiAnswers, ACompletionIsWhole) {
  const SequenceResult results[] = {result_of("one", runtime::FinishReason::kLength),
                                    result_of("two", runtime::FinishReason::kStopString)};
  const json body = json::parse(completion_format({.id = "cmpl-1", .created = 7, .model = "m"})->whole(results));
  EXPECT_EQ(body["id"], "cmpl-1");
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"].size(), 2u);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["choices"][1]["finish_reason"], "stop");
  EXPECT_EQ(body["choices"][1]["text"], "two");
  EXPECT_EQ(body["usage"]["total_tokens"], 16);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
}

// What stands behind "data: ", of each event.
std::vector<std::string> events_of(const std::string& stream) {
  std::vector<std::string> events;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    if (end == std::string::npos || stream.compare(at, 6, "data: ") != 0)
      throw std::runtime_error("no event: " + stream);
    events.push_back(stream.substr(at + 6, end - at - 6));
    at = end + 2;
  }
  return events;
}

TEST(OpenAiAnswers, AChatStreamEndsWithItsUsageAndDone) {
  const auto format = chat_format({.id = "c", .created = 7, .model = "m", .include_usage = true});
  const SequenceResult results[] = {result_of("", runtime::FinishReason::kStopToken)};
  const auto events = events_of(format->opening(0) + format->piece(0, "Hi", {}) + format->piece(0, "", {}) +
                                format->closing(0, results[0]) + format->end(results));
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(json::parse(events[0])["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(json::parse(events[1])["choices"][0]["delta"]["content"], "Hi");
  EXPECT_TRUE(json::parse(events[1])["choices"][0]["finish_reason"].is_null());
  EXPECT_EQ(json::parse(events[2])["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(json::parse(events[3])["choices"].empty());
  EXPECT_EQ(json::parse(events[3])["usage"]["completion_tokens"], 3);
  EXPECT_EQ(events[4], "[DONE]");
}

TEST(OpenAiAnswers, CallsStandInTheirOwnMember) {
  SequenceResult result = result_of("", runtime::FinishReason::kStopToken);
  result.calls = {{"id1", "f", R"({"x":1})"}, {"id2", "g", "{}"}};
  const json body = json::parse(chat_format({})->whole({&result, 1}));
  const json& choice = body["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"][0],
            (json{{"id", "id1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", R"({"x":1})"}}}}));
  EXPECT_EQ(choice["message"]["tool_calls"].size(), 2u);
  result.text = "So";
  result.reason = runtime::FinishReason::kLength;
  const json cut = json::parse(chat_format({})->whole({&result, 1}))["choices"][0];
  EXPECT_EQ(cut["finish_reason"], "length");
  EXPECT_EQ(cut["message"]["content"], "So");
}

TEST(OpenAiAnswers, AStreamedCallHasItsNameFirst) {
  const auto format = chat_format({});
  const ToolCall call{"id1", "f", ""};
  const auto events = events_of(format->call(0, {.is_call = true, .call = 1, .begins = true}, call) +
                                format->call(0, {.is_call = true, .call = 1, .arguments = "{\"x\""}, call) +
                                format->call(0, {.is_call = true, .call = 1, .ends = true}, call));
  ASSERT_EQ(events.size(), 2u);
  const json first = json::parse(events[0])["choices"][0]["delta"]["tool_calls"][0];
  EXPECT_EQ(
      first,
      (json{{"index", 1}, {"id", "id1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", ""}}}}));
  const json second = json::parse(events[1])["choices"][0]["delta"]["tool_calls"][0];
  EXPECT_EQ(second, (json{{"index", 1}, {"function", {{"arguments", "{\"x\""}}}}));
}

TEST(OpenAiAnswers, HalfCharactersDoNotBreakJson) {
  SequenceResult result = result_of("\xc3\xa4", runtime::FinishReason::kLength);
  result.with_logprobs = true;
  result.logprobs = {{.token = "\xc3", .logprob = -1, .top = {{"\xc3", -1.0F}, {"\xe2", -2.0F}}},
                     {.token = "\xa4", .logprob = 0}};
  const json chat = json::parse(chat_format({})->whole({&result, 1}));
  const json& first = chat["choices"][0]["logprobs"]["content"][0];
  EXPECT_EQ(first["bytes"], json::array({0xc3}));
  EXPECT_EQ(first["top_logprobs"][1]["bytes"], json::array({0xe2}));
  const json completion = json::parse(completion_format({})->whole({&result, 1}));
  EXPECT_EQ(completion["choices"][0]["logprobs"]["text_offset"], json::array({0, 1}));
}

}  // namespace
}  // namespace krait::server
