// Conversations as templates render them, and as the plain form has them.
#include "krait/server/chat_form.h"

#include <gtest/gtest.h>

#include "krait/server/openai_api.h"

namespace krait::server {
namespace {

constexpr const char* kChatml =
    "{%- if tools %}<|im_start|>tools\n{{ tools | tojson }} <tool_call><|im_end|>\n{% endif -%}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{%- for c in m.tool_calls or [] %}<tool_call>\n{{ c.function.arguments | tojson }}</tool_call>{% endfor -%}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined %}<think {{ enable_thinking }}>{% endif %}";

ChatForm form_of(const std::string& text) {
  formats::ChatTemplateSet set;
  auto parsed = formats::ChatTemplate::parse(text, "t.jinja");
  if (!parsed) throw std::runtime_error(parsed.error().message);
  set.templates.emplace("default", *parsed);
  set.special_tokens.emplace("bos_token", "<s>");
  auto form = ChatForm::of(std::move(set));
  if (!form) throw std::runtime_error(form.error().message);
  return *std::move(form);
}

ChatRequest chat(const std::string& body) {
  auto request = parse_chat_request(body, {});
  if (!request) throw std::runtime_error(request.error().message);
  return *std::move(request);
}

const std::string kHello = R"({"messages": [{"role": "user", "content": "Hi"}]})";
const std::string kCalls = R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"},
  {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
    "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
  {"role": "tool", "tool_call_id": "1", "content": "warm"}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]})";

TEST(ChatForm, ATemplateIsGivenTheConversationAsItWasSent) {
  const ChatForm form = form_of(kChatml);
  const auto prompt = form.prompt(chat(kHello), true);
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_EQ(prompt->text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_FALSE(prompt->add_start);
  EXPECT_TRUE(prompt->stop.empty());
  EXPECT_EQ(form.prompt(chat(kHello), false)->text, "<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_EQ(form_of("{{ bos_token }}{{ messages[0].content }}").prompt(chat(kHello), true)->text, "<s>Hi");
}

TEST(ChatForm, ToolsCallsAndVariablesReachTheTemplate) {
  const ChatForm form = form_of(kChatml);
  EXPECT_EQ(form.tool_form(chat(kCalls)).name, "hermes");
  const auto prompt = form.prompt(chat(kCalls), true);
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_TRUE(prompt->text.starts_with("<|im_start|>tools\n[{\"type\": \"function\"")) << prompt->text;
  EXPECT_NE(prompt->text.find("<tool_call>\n{\"x\": 1}</tool_call>"), std::string::npos) << prompt->text;
  EXPECT_NE(prompt->text.find("<|im_start|>tool\nwarm<|im_end|>"), std::string::npos);
  const auto thinking = form.prompt(
      chat(R"({"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"enable_thinking": false}})"),
      true);
  EXPECT_TRUE(thinking->text.ends_with("<think False>"));
  const auto none = form.prompt(chat(R"({"messages": [{"role": "user", "content": "Hi"}], "tool_choice": "none",
    "tools": [{"type": "function", "function": {"name": "f"}}]})"),
                                true);
  EXPECT_EQ(none->text, form.prompt(chat(kHello), true)->text);
}

TEST(ChatForm, ATemplateGetsContentsAndArgumentsAsItWantsThem) {
  const char* kParts = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
  EXPECT_EQ(form_of(kParts).prompt(chat(kHello), true)->text, "[Hi]");
  const std::string parts = R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
    {"type": "text", "text": "b"}]}]})";
  EXPECT_EQ(form_of(kParts).prompt(chat(parts), true)->text, "[a][b]");
  EXPECT_EQ(form_of("{{ messages[0].content }}").prompt(chat(parts), true)->text, "a\nb");
  const char* kText =
      "{% if tools %}T{% endif %}{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
      "<{{ c.function.arguments }}>{% endfor %}{% endfor %}";
  EXPECT_EQ(form_of(kText).prompt(chat(kCalls), true)->text, "TSHi<{\"x\": 1}>warm");
  EXPECT_EQ(form_of("{{ messages[0].role }}")
                .prompt(chat(R"({"messages": [{"role": "developer", "content": "d"}]})"), true)
                ->text,
            "system");
}

TEST(ChatForm, ATemplateWithoutToolsIsToldOfThemInWords) {
  const ChatForm form = form_of("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
  EXPECT_EQ(form.tool_form(chat(kCalls)).name, "generic");
  const std::string text = form.prompt(chat(kCalls), true)->text;
  EXPECT_TRUE(text.starts_with("<system>S\n\nYou can call these functions: [{\"type\":\"function\"")) << text;
  EXPECT_NE(text.find("<assistant><tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>"),
            std::string::npos)
      << text;
  EXPECT_TRUE(text.ends_with("<user><tool_response>\nwarm\n</tool_response>")) << text;
}

TEST(ChatForm, ARefusalOfTheTemplateIsToldWithItsReason) {
  const auto refused = form_of("{{ raise_exception('only users speak') }}").prompt(chat(kHello), true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, 400);
  EXPECT_EQ(refused.error().param, "messages");
  EXPECT_NE(refused.error().message.find("only users speak"), std::string::npos);
}

TEST(ChatForm, WhatFollowsAStateClosesTheReplyFirst) {
  const ChatForm form = form_of(kChatml);
  const std::string next = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
  // Of a reply, which its end token ended unread.
  EXPECT_EQ(form.continuation(chat(kHello), true, "…<|im_start|>assistant\nHello")->text, "<|im_end|>\n" + next);
  EXPECT_EQ(form.continuation(chat(kHello), true, std::nullopt)->text, "<|im_end|>\n" + next);
  // Of whole messages.
  EXPECT_EQ(form.continuation(chat(kHello), true, "<|im_start|>system\nS<|im_end|>\n")->text, next);
  EXPECT_EQ(form.continuation(chat(kHello), false, "<|im_start|>system\nS<|im_end|>\n")->text,
            "<|im_start|>user\nHi<|im_end|>\n");
  // Joined, the text is that of the whole conversation.
  const std::string first = form.prompt(chat(kHello), true)->text + "Hello";
  const std::string whole = form.prompt(chat(R"({"messages": [{"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}]})"),
                                        true)
                                ->text;
  EXPECT_EQ(first + form.continuation(chat(kHello), true, first)->text, whole);
}

TEST(ChatForm, RolesThatAlternateAreKeptBehindAState) {
  const ChatForm form = form_of(
      "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('roles must alternate') }}{% endif %}"
      "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}");
  EXPECT_EQ(form.continuation(chat(kHello), true, "[INST] a [/INST] b")->text, "</s>[INST] Hi [/INST]");
  const auto reply =
      form.continuation(chat(R"({"messages": [{"role": "assistant", "content": "So"}]})"), true, "[INST] a [/INST]");
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->text, " So</s>");
}

TEST(ChatForm, WithoutATemplateTheFormIsPlain) {
  const ChatForm form;
  EXPECT_EQ(form.prompt(chat(kHello), true)->text, "user: Hi\nassistant:");
  EXPECT_EQ(form.continuation(chat(kHello), true, "x")->text, "\nuser: Hi\nassistant:");
  const std::string text = form.prompt(chat(kCalls), true)->text;
  EXPECT_TRUE(text.starts_with("system: S\n\nYou can call these functions:")) << text;
  EXPECT_NE(text.find("tool: warm\nassistant:"), std::string::npos) << text;
}

}  // namespace
}  // namespace krait::server
