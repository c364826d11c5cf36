#include "krait/server/ollama_api.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>

#include "krait/server/request_reading.h"

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Ollama's own defaults where a request says nothing.
void read_options(JsonReader& body, const RequestLimits& limits, GenerationParameters& parameters) {
  runtime::SamplerOptions& sampler = parameters.sampler;
  sampler.temperature = 0.8F;
  sampler.top_k = 40;
  sampler.top_p = 0.9F;
  sampler.repetition_penalty = 1.1F;
  parameters.max_tokens = limits.default_tokens;
  parameters.stream = body.boolean("stream").value_or(true);
  parameters.structured.member = "format";
  if (body.kind("format") == JsonReader::Kind::object) {
    parameters.structured.kind = StructuredOutput::Kind::json_schema;
    parameters.structured.text = body.dump("format");
  } else if (const std::string format = body.text("format").value_or(""); format == "json") {
    parameters.structured.kind = StructuredOutput::Kind::json;
  } else if (!format.empty()) {
    body.complain("format", fmt::format("must be \"json\" or a schema, not \"{}\"", format));
  }
  auto options = body.object("options");
  if (!options) return;
  const auto number = [&](const char* name, double least, double most, float& into) {
    if (const auto value = options->number(name, least, most)) into = static_cast<float>(*value);
  };
  number("temperature", 0, 100, sampler.temperature);
  number("top_p", 0, 1, sampler.top_p);
  if (sampler.top_p == 0) sampler.top_p = std::numeric_limits<float>::min();
  number("min_p", 0, 1, sampler.min_p);
  number("repeat_penalty", 1e-3, 1e3, sampler.repetition_penalty);
  number("presence_penalty", -2, 2, sampler.presence_penalty);
  number("frequency_penalty", -2, 2, sampler.frequency_penalty);
  if (const auto k = options->integer("top_k", 0, std::numeric_limits<std::int32_t>::max())) sampler.top_k = *k;
  if (const auto seed = options->integer("seed", std::numeric_limits<std::int64_t>::min(),
                                         std::numeric_limits<std::int64_t>::max())) {
    parameters.seed = static_cast<std::uint64_t>(*seed);
  }
  // Negative: without end.
  if (const auto most = options->integer("num_predict", -2, limits.most_tokens)) {
    parameters.max_tokens = *most < 0 ? limits.most_tokens : *most;
  }
  for (std::string& stop : options->texts("stop")) {
    if (!stop.empty()) parameters.stop.push_back(std::move(stop));
  }
  if (static_cast<std::int64_t>(parameters.stop.size()) > limits.most_stops) {
    options->complain("stop", fmt::format("{} strings are allowed", limits.most_stops));
  }
}

class OllamaFormat : public AnswerFormat {
 public:
  OllamaFormat(std::string model, std::int64_t created) : model_(std::move(model)), created_(created) {}

  std::string whole(std::span<const SequenceResult> results) const override {
    Json line = last(results.front(), results.front().text);
    for (const ToolCall& call : results.front().calls) add_call(line, call);
    return dump(line);
  }
  std::string stream_type() const override { return "application/x-ndjson"; }
  std::string opening(std::size_t) const override { return {}; }
  std::string piece(std::size_t, const std::string& text, std::span<const ShownLogprob>) const override {
    if (text.empty()) return {};
    Json line = head();
    add_text(line, text);
    line["done"] = false;
    return dump(line) + "\n";
  }
  // Calls are shown whole.
  std::string call(std::size_t, const ReplyPart& part, const ToolCall& call) const override {
    if (!part.ends) return {};
    Json line = head();
    add_text(line, "");
    add_call(line, call);
    line["done"] = false;
    return dump(line) + "\n";
  }
  std::string closing(std::size_t, const SequenceResult& result) const override {
    return dump(last(result, "")) + "\n";
  }
  std::string end(std::span<const SequenceResult>) const override { return {}; }
  std::string failure(const ApiError& error) const override { return ollama_error_body(error) + "\n"; }

 protected:
  virtual void add_text(Json& line, const std::string& text) const = 0;
  virtual void add_call(Json&, const ToolCall&) const {}

 private:
  Json head() const {
    const auto time = static_cast<std::time_t>(created_);
    return {{"model", model_}, {"created_at", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time))}};
  }
  Json last(const SequenceResult& result, const std::string& text) const {
    const auto nanoseconds = [](double seconds) { return static_cast<std::int64_t>(seconds * 1e9); };
    Json line = head();
    add_text(line, text);
    line["done"] = true;
    line["done_reason"] = result.reason == runtime::FinishReason::kLength ? "length" : "stop";
    line["total_duration"] = nanoseconds(result.prompt_seconds + result.decode_seconds);
    line["load_duration"] = 0;
    line["prompt_eval_count"] = result.prompt_tokens;
    line["prompt_eval_duration"] = nanoseconds(result.prompt_seconds);
    line["eval_count"] = result.generated_tokens;
    line["eval_duration"] = nanoseconds(result.decode_seconds);
    return line;
  }

  const std::string model_;
  const std::int64_t created_;
};

class GenerateFormat final : public OllamaFormat {
 public:
  using OllamaFormat::OllamaFormat;

 protected:
  void add_text(Json& line, const std::string& text) const override { line["response"] = text; }
};

class OllamaChatFormat final : public OllamaFormat {
 public:
  using OllamaFormat::OllamaFormat;

 protected:
  void add_text(Json& line, const std::string& text) const override {
    line["message"] = {{"role", "assistant"}, {"content", text}};
  }
  // Arguments are an object. Those of a call that was cut off are none, and the call is left out.
  void add_call(Json& line, const ToolCall& call) const override {
    Json arguments = Json::parse(call.arguments, nullptr, false);
    if (!arguments.is_object()) return;
    line["message"]["tool_calls"].push_back({{"function", {{"name", call.name}, {"arguments", std::move(arguments)}}}});
  }
};

}  // namespace

ApiResult<OllamaGenerateRequest> parse_ollama_generate(std::string_view text, const RequestLimits& limits) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  OllamaGenerateRequest request;
  request.model = body.text("model").value_or("");
  request.prompt = body.text("prompt").value_or("");
  request.system = body.text("system").value_or("");
  request.raw = body.boolean("raw").value_or(false);
  read_options(body, limits, request.parameters);
  if (!body.text("suffix").value_or("").empty()) body.complain("suffix", "is not supported");
  if (body.first_kind("images") != JsonReader::Kind::absent) body.complain("images", "are not supported");
  if (body.first_kind("context") != JsonReader::Kind::absent) {
    body.complain("context", "is not supported: krait's states do that (docs/serve.md)");
  }
  if (body.has("template")) body.complain("template", "is not supported");
  if (body.error()) return std::unexpected(*body.error());
  return request;
}

ApiResult<ChatRequest> parse_ollama_chat(std::string_view text, const RequestLimits& limits) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  ChatRequest request;
  request.model = body.text("model").value_or("");
  read_options(body, limits, request.parameters);
  read_conversation(body, request);
  for (JsonReader& message : body.objects("messages")) {
    if (message.first_kind("images") != JsonReader::Kind::absent) message.complain("images", "are not supported");
  }
  if (request.messages.empty()) body.complain("messages", "is missing or empty");
  read_tools(body, request);
  // What templates of models that think call it.
  if (const auto think = body.boolean("think")) {
    request.variables_json = fmt::format(R"({{"enable_thinking": {}}})", *think);
  }
  if (body.error()) return std::unexpected(*body.error());
  return request;
}

std::unique_ptr<AnswerFormat> ollama_generate_format(std::string model, std::int64_t created) {
  return std::make_unique<GenerateFormat>(std::move(model), created);
}

std::unique_ptr<AnswerFormat> ollama_chat_format(std::string model, std::int64_t created) {
  return std::make_unique<OllamaChatFormat>(std::move(model), created);
}

std::string ollama_tags_body(const ModelCard& card) {
  const auto time = static_cast<std::time_t>(card.created);
  const Json model = {{"name", card.name},
                      {"model", card.name},
                      {"modified_at", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(time))},
                      {"size", card.bytes},
                      {"digest", card.digest},
                      {"details",
                       {{"format", "krait"},
                        {"family", card.architecture},
                        {"families", Json::array({card.architecture})},
                        {"quantization_level", card.weights}}}};
  return dump({{"models", Json::array({model})}});
}

std::string ollama_version_body(const std::string& version) { return dump({{"version", version}}); }

std::string ollama_error_body(const ApiError& error) { return dump({{"error", error.message}}); }

}  // namespace krait::server
