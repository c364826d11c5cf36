#include <nlohmann/json.hpp>

#include "krait/server/openai_api.h"
#include "krait/server/sse_stream.h"

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string_view finish_reason(const SequenceResult& result) {
  if (result.reason == runtime::FinishReason::kLength) return "length";
  return result.calls.empty() ? "stop" : "tool_calls";
}

Json bytes_of(const std::string& token) {
  Json bytes = Json::array();
  for (const char c : token) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json state_of(const ShownState& state) {
  return {{"id", state.id},
          {"bytes", state.bytes},
          {"position", state.position},
          {"expires_in_seconds", state.expires_in_seconds}};
}

Json usage_of(std::span<const SequenceResult> results) {
  // Sequences of one prompt share it: it counts once for each that read it anew.
  std::int64_t prompt = 0, cached = 0, generated = 0;
  for (const SequenceResult& result : results) {
    prompt += result.prompt_tokens;
    cached += result.reused_tokens;
    generated += result.generated_tokens;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated},
          {"total_tokens", prompt + generated},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

// The two shapes differ in names and in what stands in a choice.
class OpenAiFormat : public AnswerFormat {
 public:
  explicit OpenAiFormat(AnswerHead head) : head_(std::move(head)) {}

  std::string whole(std::span<const SequenceResult> results) const override {
    Json body = head(whole_object());
    body["choices"] = Json::array();
    for (std::size_t i = 0; i < results.size(); ++i) {
      Json choice = whole_choice(i, results[i]);
      if (results[i].state) choice["state"] = state_of(*results[i].state);
      body["choices"].push_back(std::move(choice));
    }
    body["usage"] = usage_of(results);
    if (!results.empty()) body["cache"] = results.front().lookup;
    return dump(body);
  }

  std::string stream_type() const override { return std::string(kEventStream); }

  std::string piece(std::size_t index, const std::string& text, std::span<const ShownLogprob> logprobs) const override {
    if (text.empty() && logprobs.empty()) return {};
    return event(piece_choice(index, text, logprobs));
  }

  std::string closing(std::size_t index, const SequenceResult& result) const override {
    Json choice = piece_choice(index, {}, {});
    choice["finish_reason"] = finish_reason(result);
    if (result.state) choice["state"] = state_of(*result.state);
    return event(std::move(choice));
  }

  std::string end(std::span<const SequenceResult> results) const override {
    std::string text;
    if (head_.include_usage) {
      Json body = head(piece_object());
      body["choices"] = Json::array();
      body["usage"] = usage_of(results);
      if (!results.empty()) body["cache"] = results.front().lookup;
      text = sse_event(dump(body));
    }
    return text + sse_done();
  }

  std::string failure(const ApiError& error) const override { return sse_event(error_body(error)); }

 protected:
  virtual const char* whole_object() const = 0;
  virtual const char* piece_object() const = 0;
  virtual Json whole_choice(std::size_t index, const SequenceResult& result) const = 0;
  virtual Json piece_choice(std::size_t index, const std::string& text,
                            std::span<const ShownLogprob> logprobs) const = 0;

  std::string event(Json choice) const {
    Json body = head(piece_object());
    body["choices"] = Json::array({std::move(choice)});
    if (head_.include_usage) body["usage"] = nullptr;
    return sse_event(dump(body));
  }

 private:
  Json head(const char* object) const {
    return {{"id", head_.id}, {"object", object}, {"created", head_.created}, {"model", head_.model}};
  }

  const AnswerHead head_;
};

class CompletionFormat final : public OpenAiFormat {
 public:
  using OpenAiFormat::OpenAiFormat;
  std::string opening(std::size_t) const override { return {}; }

 protected:
  const char* whole_object() const override { return "text_completion"; }
  const char* piece_object() const override { return "text_completion"; }

  Json whole_choice(std::size_t index, const SequenceResult& result) const override {
    return {{"index", index},
            {"text", result.text},
            {"logprobs", result.with_logprobs ? logprobs_of(result.logprobs) : Json(nullptr)},
            {"finish_reason", finish_reason(result)}};
  }

  Json piece_choice(std::size_t index, const std::string& text, std::span<const ShownLogprob> logprobs) const override {
    return {{"index", index},
            {"text", text},
            {"logprobs", logprobs.empty() ? Json(nullptr) : logprobs_of(logprobs)},
            {"finish_reason", nullptr}};
  }

 private:
  // In bytes from the first of these tokens.
  static Json logprobs_of(std::span<const ShownLogprob> logprobs) {
    Json tokens = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
    std::size_t offset = 0;
    for (const ShownLogprob& shown : logprobs) {
      tokens.push_back(shown.token);
      offsets.push_back(offset);
      offset += shown.token.size();
      if (!shown.known) {
        values.push_back(nullptr);
        tops.push_back(nullptr);
        continue;
      }
      values.push_back(shown.logprob);
      Json top = Json::object();
      for (const auto& [token, value] : shown.top) {
        // Two halves of characters look the same in JSON; the likelier one stays.
        const std::string key = Json::parse(dump(token)).get<std::string>();
        if (!top.contains(key)) top[key] = value;
      }
      tops.push_back(std::move(top));
    }
    return {{"tokens", tokens}, {"token_logprobs", values}, {"top_logprobs", tops}, {"text_offset", offsets}};
  }
};

class ChatFormat final : public OpenAiFormat {
 public:
  using OpenAiFormat::OpenAiFormat;
  std::string opening(std::size_t index) const override {
    return event({{"index", index},
                  {"delta", {{"role", "assistant"}, {"content", ""}}},
                  {"logprobs", nullptr},
                  {"finish_reason", nullptr}});
  }

 protected:
  const char* whole_object() const override { return "chat.completion"; }
  const char* piece_object() const override { return "chat.completion.chunk"; }

  Json whole_choice(std::size_t index, const SequenceResult& result) const override {
    return {{"index", index},
            {"message", message_of(result)},
            {"logprobs", result.with_logprobs ? logprobs_of(result.logprobs) : Json(nullptr)},
            {"finish_reason", finish_reason(result)}};
  }

  std::string call(std::size_t index, const ReplyPart& part, const ToolCall& call) const override {
    Json delta = {{"index", part.call}};
    if (part.begins) {
      delta["id"] = call.id;
      delta["type"] = "function";
      delta["function"] = {{"name", call.name}, {"arguments", ""}};
    } else if (part.arguments.empty()) {
      return {};
    } else {
      delta["function"] = {{"arguments", part.arguments}};
    }
    return event({{"index", index},
                  {"delta", {{"tool_calls", Json::array({std::move(delta)})}}},
                  {"logprobs", nullptr},
                  {"finish_reason", nullptr}});
  }

  Json piece_choice(std::size_t index, const std::string& text, std::span<const ShownLogprob> logprobs) const override {
    Json delta = Json::object();
    if (!text.empty()) delta["content"] = text;
    return {{"index", index},
            {"delta", delta},
            {"logprobs", logprobs.empty() ? Json(nullptr) : logprobs_of(logprobs)},
            {"finish_reason", nullptr}};
  }

 private:
  static Json message_of(const SequenceResult& result) {
    Json message = {{"role", "assistant"}, {"content", result.text}, {"refusal", nullptr}};
    if (result.calls.empty()) return message;
    if (result.text.empty()) message["content"] = nullptr;
    message["tool_calls"] = Json::array();
    for (const ToolCall& call : result.calls) {
      message["tool_calls"].push_back(
          {{"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    return message;
  }

  static Json logprobs_of(std::span<const ShownLogprob> logprobs) {
    Json content = Json::array();
    for (const ShownLogprob& shown : logprobs) {
      Json top = Json::array();
      for (const auto& [token, value] : shown.top) {
        top.push_back({{"token", token}, {"logprob", value}, {"bytes", bytes_of(token)}});
      }
      content.push_back({{"token", shown.token},
                         {"logprob", shown.logprob},
                         {"bytes", bytes_of(shown.token)},
                         {"top_logprobs", std::move(top)}});
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
  }
};

Json model_of(const std::string& name, std::int64_t created) {
  return {{"id", name}, {"object", "model"}, {"created", created}, {"owned_by", "krait"}};
}

}  // namespace

std::unique_ptr<AnswerFormat> completion_format(AnswerHead head) {
  return std::make_unique<CompletionFormat>(std::move(head));
}

std::unique_ptr<AnswerFormat> chat_format(AnswerHead head) { return std::make_unique<ChatFormat>(std::move(head)); }

std::string model_body(const std::string& name, std::int64_t created) { return dump(model_of(name, created)); }

std::string models_body(const std::string& name, std::int64_t created) {
  return dump({{"object", "list"}, {"data", Json::array({model_of(name, created)})}});
}

std::string tokens_body(std::span<const formats::TokenId> tokens) {
  return dump({{"tokens", std::vector<formats::TokenId>(tokens.begin(), tokens.end())}, {"count", tokens.size()}});
}

std::string text_body(std::string_view text) { return dump({{"prompt", text}, {"content", text}}); }

}  // namespace krait::server
