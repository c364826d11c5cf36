#include "krait/server/openai_responses.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "krait/server/answer_shelf.h"

namespace krait::server {
namespace {

using nlohmann::json;

ResponseRequest response(const std::string& body) {
  auto request = parse_response_request(body, {});
  if (!request) throw std::runtime_error(request.error().message);
  return *std::move(request);
}

std::string complaint(const std::string& members) {
  const auto request = parse_response_request("{" + members + "}", {});
  return request ? "none" : request.error().param;
}

TEST(ResponseRequests, InputIsATextOrItems) {
  const ResponseRequest text = response(R"({"input": "Hi", "instructions": "Be brief", "max_output_tokens": 5})");
  ASSERT_EQ(text.messages.size(), 1u);
  EXPECT_EQ(text.messages[0].role, "user");
  EXPECT_EQ(text.parameters.max_tokens, 5);
  EXPECT_TRUE(text.store);
  const ResponseRequest items = response(R"({"input": [
      {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
      {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
      {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
      {"type": "function_call_output", "call_id": "1", "output": "r"}],
      "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
      "text": {"format": {"type": "json_schema", "name": "n", "schema": {"const": 1}}}})");
  const json messages = json::parse(items.messages_json);
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0], (json{{"role", "user"}, {"content", "a"}}));
  EXPECT_EQ(messages[1]["tool_calls"].size(), 2u);
  EXPECT_EQ(messages[1]["content"], "b");
  EXPECT_EQ(messages[2], (json{{"role", "tool"}, {"content", "r"}, {"tool_call_id", "1"}}));
  EXPECT_EQ(items.messages.size(), 3u);
  EXPECT_EQ(json::parse(items.tools_json)[0]["function"]["name"], "f");
  EXPECT_EQ(items.parameters.structured.text, R"({"const":1})");
  EXPECT_EQ(items.parameters.structured.member, "text.format");
}

TEST(ResponseRequests, WhatIsNotSupportedIsNamed) {
  for (const auto& [members, member] : std::vector<std::pair<std::string, std::string>>{
           {"", "input"},
           {R"("input": [])", "input"},
           {R"("input": 3)", "input"},
           {R"("input": [{"type": "reasoning"}])", "input[0].type"},
           {R"("input": [{"role": "user", "content": [{"type": "input_image"}]}])", "input[0].content[0].type"},
           {R"("input": "a", "tools": [{"type": "web_search"}])", "tools[0].type"},
           {R"("input": "a", "background": true)", "background"},
           {R"("input": "a", "truncation": "auto")", "truncation"},
           {R"("input": "a", "reasoning": {"effort": "low"})", "reasoning"},
           {R"("input": "a", "text": {"format": {"type": "json_schema", "name": "n"}})", "text.format.schema"},
       }) {
    EXPECT_EQ(complaint(members), member) << members;
  }
  const auto refused = parse_response_request(R"({"input": "a", "tools": [{"type": "web_search"}]})", {});
  EXPECT_NE(refused.error().message.find("web_search"), std::string::npos);
}

TEST(ResponseRequests, ConversationsAreJoined) {
  const ResponseRequest first = response(R"({"input": "a"})");
  SequenceResult reply;
  reply.text = "b";
  reply.calls = {{"1", "f", "{}"}};
  const Conversation both = with_instructions(joined(with_reply(first, reply), response(R"({"input": "c"})")), "S");
  const json messages = json::parse(both.messages_json);
  ASSERT_EQ(messages.size(), 4u);
  EXPECT_EQ(messages[0]["role"], "system");
  EXPECT_EQ(messages[2]["content"], "b");
  EXPECT_EQ(messages[2]["tool_calls"][0]["id"], "1");
  EXPECT_EQ(messages[3]["content"], "c");
  ASSERT_EQ(both.messages.size(), 4u);
  EXPECT_EQ(both.messages[2].calls.size(), 1u);
}

std::vector<json> events_of(const std::string& stream) {
  std::vector<json> events;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t data = stream.find("\ndata: ", at);
    const std::size_t end = stream.find("\n\n", at);
    if (!stream.substr(at).starts_with("event: ") || data > end) throw std::runtime_error("no event: " + stream);
    events.push_back(json::parse(stream.substr(data + 7, end - data - 7)));
    if (events.back()["type"] != stream.substr(at + 7, data - at - 7)) throw std::runtime_error("names differ");
    at = end + 2;
  }
  return events;
}

std::vector<std::string> types_of(const std::vector<json>& events) {
  std::vector<std::string> types;
  for (const json& event : events) types.push_back(event["type"]);
  return types;
}

TEST(ResponseAnswers, AStreamHasNamedEventsInOrder) {
  const auto format = response_format(
      {.id = "resp_1", .created = 7, .model = "m", .previous = "", .instructions = "", .echo = R"({"store": true})"});
  SequenceResult result;
  result.text = "Hi you";
  result.reason = runtime::FinishReason::kStopToken;
  result.prompt_tokens = 5;
  result.reused_tokens = 2;
  result.generated_tokens = 3;
  std::string stream = format->opening(0);
  for (const char* piece : {"Hi", "", " you"}) stream += format->piece(0, piece, {});
  stream += format->closing(0, result);
  stream += format->end({&result, 1});
  const auto events = events_of(stream);
  EXPECT_EQ(types_of(events),
            (std::vector<std::string>{
                "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
                "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
                "response.content_part.done", "response.output_item.done", "response.completed"}));
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i]["sequence_number"], i);
  EXPECT_EQ(events[6]["text"], "Hi you");
  const json body = events.back()["response"];
  EXPECT_EQ(body["status"], "completed");
  EXPECT_EQ(body["output"][0]["content"][0]["text"], "Hi you");
  EXPECT_EQ(body["usage"]["input_tokens_details"]["cached_tokens"], 2);
  EXPECT_TRUE(body["store"].get<bool>());
  const json whole = json::parse(response_format({.id = "resp_1",
                                                  .created = 7,
                                                  .model = "m",
                                                  .previous = "",
                                                  .instructions = "",
                                                  .echo = R"({"store": true})"})
                                     ->whole({&result, 1}));
  EXPECT_EQ(whole, body);
}

TEST(ResponseAnswers, ACallIsAnItemAndACutOneIsIncomplete) {
  const auto format =
      response_format({.id = "r", .created = 0, .model = "m", .previous = "", .instructions = "", .echo = "{}"});
  SequenceResult result;
  result.reason = runtime::FinishReason::kLength;
  result.calls = {{"c1", "f", R"({"x":)"}};
  const ToolCall& call = result.calls[0];
  std::string stream = format->opening(0);
  stream += format->call(0, {.is_call = true, .begins = true}, {"c1", "f", ""});
  stream += format->call(0, {.is_call = true, .arguments = R"({"x":)"}, call);
  stream += format->closing(0, result);
  stream += format->end({&result, 1});
  const auto events = events_of(stream);
  EXPECT_EQ(types_of(events),
            (std::vector<std::string>{"response.created", "response.in_progress", "response.output_item.added",
                                      "response.function_call_arguments.delta", "response.function_call_arguments.done",
                                      "response.output_item.done", "response.incomplete"}));
  EXPECT_EQ(events[2]["item"]["arguments"], "");
  const json item = events.back()["response"]["output"][0];
  EXPECT_EQ(item["type"], "function_call");
  EXPECT_EQ(item["call_id"], "c1");
  EXPECT_EQ(item["status"], "incomplete");
  EXPECT_EQ(events.back()["response"]["incomplete_details"]["reason"], "max_output_tokens");
}

TEST(AnswerShelf, AnswersBelongToTheirOwnerAndTheOldestGo) {
  KeptAnswer answer;
  answer.owner = "alice";
  answer.body = std::string(1000, 'x');
  answer.id = "a";
  AnswerShelf shelf(answer.bytes() * 2);
  shelf.put(answer);
  EXPECT_TRUE(shelf.find("a", "alice"));
  EXPECT_EQ(shelf.find("a", "bob").error().status, 404);
  EXPECT_FALSE(shelf.drop("a", "bob"));
  answer.id = "b";
  shelf.put(answer);
  EXPECT_TRUE(shelf.find("a", "alice"));  // used last
  answer.id = "c";
  shelf.put(answer);
  EXPECT_FALSE(shelf.find("b", "alice"));
  EXPECT_TRUE(shelf.find("a", "alice"));
  EXPECT_TRUE(shelf.drop("a", "alice"));
  EXPECT_FALSE(shelf.find("a", "alice"));
}

}  // namespace
}  // namespace krait::server
