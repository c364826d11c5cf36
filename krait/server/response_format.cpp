// Answers of /v1/responses: items of output, whole, or as events that carry their names and are numbered.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "krait/server/openai_responses.h"
#include "krait/server/sse_stream.h"

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

class ResponseFormat final : public AnswerFormat {
 public:
  explicit ResponseFormat(ResponseHead head) : head_(std::move(head)) {}

  std::string whole(std::span<const SequenceResult> results) const override { return dump(finished(results.front())); }
  std::string stream_type() const override { return std::string(kEventStream); }

  std::string opening(std::size_t) const override {
    const Json body = response("in_progress", Json::array());
    std::string out = event("response.created", {{"response", body}});
    return out += event("response.in_progress", {{"response", body}});
  }

  std::string piece(std::size_t, const std::string& text, std::span<const ShownLogprob>) const override {
    if (text.empty()) return {};
    std::string out = open_message();
    text_ += text;
    return out += event("response.output_text.delta", {{"item_id", message_id()},
                                                       {"output_index", item_},
                                                       {"content_index", 0},
                                                       {"delta", text},
                                                       {"logprobs", Json::array()}});
  }

  std::string call(std::size_t, const ReplyPart& part, const ToolCall& call) const override {
    std::string out;
    const std::string id = call_id(call);
    if (part.begins) {
      out += close_message("completed");
      calling_ = call;
      out += event("response.output_item.added",
                   {{"output_index", item_}, {"item", call_item({call.id, call.name, ""}, "in_progress")}});
    }
    if (!part.arguments.empty()) {
      out += event("response.function_call_arguments.delta",
                   {{"item_id", id}, {"output_index", item_}, {"delta", part.arguments}});
    }
    calling_ = call;
    if (part.ends) out += close_call("completed");
    return out;
  }

  std::string closing(std::size_t, const SequenceResult& result) const override {
    std::string out;
    const char* status = status_of(result);
    if (calling_) out += close_call(status);
    // A reply without a word is a message without a word.
    if (item_ == 0 && !in_message_) out += open_message();
    return out += close_message(status);
  }

  std::string end(std::span<const SequenceResult> results) const override {
    const Json body = finished(results.front());
    return event(body["status"] == "completed" ? "response.completed" : "response.incomplete", {{"response", body}});
  }

  std::string failure(const ApiError& error) const override {
    Json body = response("failed", Json::array());
    body["error"] = {{"code", error.code.empty() ? "server_error" : error.code}, {"message", error.message}};
    return event("response.failed", {{"response", std::move(body)}});
  }

 private:
  static const char* status_of(const SequenceResult& result) {
    return result.reason == runtime::FinishReason::kLength ? "incomplete" : "completed";
  }

  // Events are numbered as they are made, so each is made in a statement of its own.
  std::string event(const char* type, Json members) const {
    Json data = {{"type", type}, {"sequence_number", sequence_++}};
    data.update(members);
    return fmt::format("event: {}\n{}", type, sse_event(dump(data)));
  }

  std::string message_id() const { return fmt::format("msg_{}_{}", head_.id, item_); }
  static std::string call_id(const ToolCall& call) { return "fc_" + call.id; }

  static Json part_of(const std::string& text) {
    return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", Json::array()}};
  }
  Json message_item(const std::string& id, Json content, const char* status) const {
    return {
        {"id", id}, {"type", "message"}, {"status", status}, {"role", "assistant"}, {"content", std::move(content)}};
  }
  static Json call_item(const ToolCall& call, const char* status) {
    return {{"id", call_id(call)}, {"type", "function_call"}, {"status", status},
            {"call_id", call.id},  {"name", call.name},       {"arguments", call.arguments}};
  }

  std::string open_message() const {
    if (in_message_) return {};
    in_message_ = true;
    std::string out =
        event("response.output_item.added",
              {{"output_index", item_}, {"item", message_item(message_id(), Json::array(), "in_progress")}});
    return out +=
           event("response.content_part.added",
                 {{"item_id", message_id()}, {"output_index", item_}, {"content_index", 0}, {"part", part_of("")}});
  }

  std::string close_message(const char* status) const {
    if (!in_message_) return {};
    in_message_ = false;
    const std::string id = message_id();
    std::string out = event(
        "response.output_text.done",
        {{"item_id", id}, {"output_index", item_}, {"content_index", 0}, {"text", text_}, {"logprobs", Json::array()}});
    out += event("response.content_part.done",
                 {{"item_id", id}, {"output_index", item_}, {"content_index", 0}, {"part", part_of(text_)}});
    add_item(message_item(id, Json::array({part_of(text_)}), status), out);
    text_.clear();
    return out;
  }

  std::string close_call(const char* status) const {
    std::string out = event("response.function_call_arguments.done", {{"item_id", call_id(*calling_)},
                                                                      {"output_index", item_},
                                                                      {"name", calling_->name},
                                                                      {"arguments", calling_->arguments}});
    add_item(call_item(*calling_, status), out);
    calling_.reset();
    return out;
  }

  void add_item(Json item, std::string& out) const {
    out += event("response.output_item.done", {{"output_index", item_}, {"item", item}});
    items_.push_back(std::move(item));
    ++item_;
  }

  Json response(const char* status, Json output) const {
    Json body = {{"id", head_.id},
                 {"object", "response"},
                 {"created_at", head_.created},
                 {"status", status},
                 {"background", false},
                 {"error", nullptr},
                 {"incomplete_details", nullptr},
                 {"instructions", head_.instructions.empty() ? Json(nullptr) : Json(head_.instructions)},
                 {"model", head_.model},
                 {"output", std::move(output)},
                 {"previous_response_id", head_.previous.empty() ? Json(nullptr) : Json(head_.previous)},
                 {"truncation", "disabled"},
                 {"usage", nullptr}};
    body.update(Json::parse(head_.echo));
    return body;
  }

  Json finished(const SequenceResult& result) const {
    const char* status = status_of(result);
    Json output = items_;  // of a stream, as it was sent
    if (output.empty()) {
      if (!result.text.empty() || result.calls.empty()) {
        output.push_back(message_item(fmt::format("msg_{}_0", head_.id), Json::array({part_of(result.text)}), status));
      }
      for (const ToolCall& call : result.calls) {
        const bool is_cut = &call == &result.calls.back() && !Json::accept(call.arguments);
        output.push_back(call_item(call, is_cut ? "incomplete" : "completed"));
      }
    }
    Json body = response(status, std::move(output));
    if (body["status"] == "incomplete") body["incomplete_details"] = {{"reason", "max_output_tokens"}};
    body["usage"] = {{"input_tokens", result.prompt_tokens},
                     {"input_tokens_details", {{"cached_tokens", result.reused_tokens}}},
                     {"output_tokens", result.generated_tokens},
                     {"output_tokens_details", {{"reasoning_tokens", 0}}},
                     {"total_tokens", result.prompt_tokens + result.generated_tokens}};
    return body;
  }

  const ResponseHead head_;
  // Where the stream stands. Its one sequence has its events one at a time.
  mutable std::int64_t sequence_ = 0;
  mutable std::int64_t item_ = 0;
  mutable bool in_message_ = false;
  mutable std::string text_;
  mutable std::optional<ToolCall> calling_;
  mutable Json items_ = Json::array();
};

}  // namespace

std::unique_ptr<AnswerFormat> response_format(ResponseHead head) {
  return std::make_unique<ResponseFormat>(std::move(head));
}

std::string response_deleted_body(const std::string& id) {
  return dump({{"id", id}, {"object", "response"}, {"deleted", true}});
}

}  // namespace krait::server
