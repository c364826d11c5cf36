#include <fmt/format.h>

#include <limits>

#include "krait/server/json_reader.h"
#include "krait/server/openai_api.h"
#include "krait/server/request_reading.h"

namespace krait::server {
namespace {

constexpr double kLargest = 1e30;
constexpr std::int64_t kLargestId = std::numeric_limits<formats::TokenId>::max();

// A JSON number may be any integer; a seed is taken by its bits.
std::optional<std::uint64_t> seed_of(JsonReader& body) {
  const auto seed =
      body.integer("seed", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max());
  return seed ? std::optional(static_cast<std::uint64_t>(*seed)) : std::nullopt;
}

void read_sampler(JsonReader& body, runtime::SamplerOptions& sampler) {
  const auto number = [&](const char* name, double least, double most, double otherwise) {
    return static_cast<float>(body.number(name, least, most).value_or(otherwise));
  };
  sampler.temperature = number("temperature", 0, 100, 1);
  sampler.top_p = number("top_p", 0, 1, 1);
  if (body.has("top_p") && sampler.top_p == 0) sampler.top_p = std::numeric_limits<float>::min();  // the likeliest only
  sampler.top_k = body.integer("top_k", -1, kLargestId).value_or(0);
  if (sampler.top_k < 0) sampler.top_k = 0;
  sampler.min_p = number("min_p", 0, 1, 0);
  sampler.repetition_penalty = number("repetition_penalty", 1e-3, 1e3, 1);
  sampler.presence_penalty = number("presence_penalty", -2, 2, 0);
  sampler.frequency_penalty = number("frequency_penalty", -2, 2, 0);
  for (const auto& [id, bias] : body.numbers_by_name("logit_bias", -100, 100)) {
    std::int64_t token = -1;
    std::size_t used = 0;
    try {
      token = std::stoll(id, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != id.size() || used == 0 || token < 0 || token > kLargestId) {
      body.complain("logit_bias", fmt::format("\"{}\" is no token id", id));
      return;
    }
    sampler.logit_bias.emplace_back(static_cast<formats::TokenId>(token), static_cast<float>(bias));
  }
}

// What vLLM has beside response_format.
void read_guided(JsonReader& body, StructuredOutput& structured) {
  using Kind = StructuredOutput::Kind;
  for (const auto& [member, kind] :
       {std::pair("guided_json", Kind::json_schema), std::pair("guided_regex", Kind::regex),
        std::pair("guided_choice", Kind::choice)}) {
    if (!body.has(member)) continue;
    if (structured.kind != Kind::none) {
      body.complain(member, fmt::format("cannot stand beside {}", structured.member));
      return;
    }
    structured.kind = kind;
    structured.member = member;
    if (kind == Kind::choice) {
      structured.choices = body.texts(member);
      if (structured.choices.empty()) body.complain(member, "must hold the texts of which one is to be written");
    } else if (kind == Kind::json_schema && body.kind(member) == JsonReader::Kind::object) {
      structured.text = body.dump(member);
    } else {
      structured.text = body.text(member).value_or("");
    }
  }
  for (const char* member : {"guided_grammar", "structured_outputs"}) {
    if (body.has(member)) {
      body.complain(member, "is not supported: response_format, guided_json, guided_regex and guided_choice are",
                    "unsupported_parameter");
    }
  }
}

}  // namespace

void read_format(JsonReader& format, JsonReader& schema_holder, StructuredOutput& structured) {
  const std::string type = format.text("type").value_or("");
  if (type == "json_object") {
    structured.kind = StructuredOutput::Kind::json;
  } else if (type == "json_schema") {
    structured.kind = StructuredOutput::Kind::json_schema;
    structured.text = schema_holder.object("schema") ? schema_holder.dump("schema") : "";
    schema_holder.boolean("strict");
    if (structured.text.empty()) {
      schema_holder.complain("schema", "is missing: it says what is to be written", "missing_required_parameter");
    }
  } else if (type != "text") {
    format.complain("type", fmt::format("must be text, json_object or json_schema, not \"{}\"", type));
  }
}

void read_parameters(JsonReader& body, const RequestLimits& limits, GenerationParameters& parameters) {
  read_sampler(body, parameters.sampler);
  parameters.seed = seed_of(body);
  for (std::string& stop : body.texts("stop")) {
    if (!stop.empty()) parameters.stop.push_back(std::move(stop));
  }
  if (static_cast<std::int64_t>(parameters.stop.size()) > limits.most_stops) {
    body.complain("stop", fmt::format("holds {} strings; {} are allowed", parameters.stop.size(), limits.most_stops));
  }
  parameters.ignore_eos = body.boolean("ignore_eos").value_or(false);
  parameters.n = body.integer("n", 1, limits.most_sequences).value_or(1);
  parameters.best_of = parameters.n;
  parameters.stream = body.boolean("stream").value_or(false);
  if (auto options = body.object("stream_options")) {
    if (!parameters.stream) body.complain("stream_options", "is for streams only");
    parameters.include_usage = options->boolean("include_usage").value_or(false);
  }
  if (auto format = body.object("response_format")) {
    parameters.structured.member = "response_format";
    auto holder = format->object("json_schema");
    if (!holder && format->text("type") == "json_schema") {
      format->complain("json_schema", "is missing", "missing_required_parameter");
    }
    read_format(*format, holder ? *holder : *format, parameters.structured);
  }
  read_guided(body, parameters.structured);
  parameters.priority = static_cast<int>(body.integer("priority", -100, 100).value_or(0));
  parameters.state = body.text("state").value_or("");
  parameters.return_state = body.boolean("return_state").value_or(false);
  parameters.store = body.boolean("store").value_or(false);
  body.text("user");
}

namespace {

template <class T>
ApiResult<T> checked(const JsonReader& body, T value) {
  if (body.error()) return std::unexpected(*body.error());
  return value;
}

}  // namespace

ApiResult<CompletionRequest> parse_completion_request(std::string_view text, const RequestLimits& limits) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  CompletionRequest request;
  GenerationParameters& parameters = request.parameters;
  request.model = body.text("model").value_or("");
  read_parameters(body, limits, parameters);
  parameters.max_tokens = body.integer("max_tokens", 0, limits.most_tokens).value_or(16);
  parameters.best_of = body.integer("best_of", 1, limits.most_sequences).value_or(parameters.n);
  if (parameters.best_of < parameters.n) {
    body.complain("best_of", fmt::format("is {}, and n is {}: it must not be less", parameters.best_of, parameters.n));
  }
  if (parameters.best_of > parameters.n && parameters.stream) {
    body.complain("best_of", "cannot be streamed: which texts are the best is known at the end");
  }
  if (parameters.best_of > parameters.n && parameters.return_state) {
    body.complain("return_state", "cannot stand beside best_of: states of texts that are not shown would be kept");
  }
  if (const auto logprobs = body.integer("logprobs", 0, limits.most_logprobs)) {
    parameters.logprobs = static_cast<int>(*logprobs);
  }
  request.echo = body.boolean("echo").value_or(false);
  // The prompt that is shown again has its logprobs too.
  if (request.echo) parameters.prompt_logprobs = parameters.logprobs;
  if (!body.text("suffix").value_or("").empty()) {
    body.complain("suffix", "is not supported: the model reads from left to right", "unsupported_parameter");
  }

  request.prompts = read_prompts(body, "prompt");
  if (!body.has("prompt")) {
    if (parameters.state.empty()) body.complain("prompt", "is missing", "missing_required_parameter");
    request.prompts.emplace_back(std::string());
  }
  if (static_cast<std::int64_t>(request.prompts.size()) > limits.most_prompts) {
    body.complain("prompt",
                  fmt::format("holds {} prompts; {} are allowed", request.prompts.size(), limits.most_prompts));
  }
  return checked(body, std::move(request));
}

ApiResult<ChatRequest> parse_chat_request(std::string_view text, const RequestLimits& limits) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  ChatRequest request;
  GenerationParameters& parameters = request.parameters;
  request.model = body.text("model").value_or("");
  read_parameters(body, limits, parameters);
  const auto old_name = body.integer("max_tokens", 0, limits.most_tokens);
  parameters.max_tokens =
      body.integer("max_completion_tokens", 0, limits.most_tokens).value_or(old_name.value_or(limits.default_tokens));
  const bool logprobs = body.boolean("logprobs").value_or(false);
  const auto top = body.integer("top_logprobs", 0, limits.most_logprobs);
  if (top && !logprobs) body.complain("top_logprobs", "needs logprobs to be true");
  if (logprobs) parameters.logprobs = static_cast<int>(top.value_or(0));
  read_conversation(body, request);
  read_tools(body, request);
  if (request.messages.empty()) body.complain("messages", "is missing or empty", "missing_required_parameter");
  return checked(body, std::move(request));
}

ApiResult<StateRequest> parse_state_request(std::string_view text) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  StateRequest request;
  request.text = body.text("text").value_or("");
  read_conversation(body, request);
  read_tools(body, request);
  request.response_id = body.text("response_id").value_or("");
  request.state = body.text("state").value_or("");
  request.ttl_seconds = body.number("ttl_seconds", 0, kLargest);
  if (body.has("text") + body.has("messages") + body.has("response_id") != 1) {
    body.complain("text", "one of text, messages and response_id says what the state is to be behind",
                  "missing_required_parameter");
  }
  if (body.has("response_id") && body.has("state")) {
    body.complain("state", "cannot stand beside response_id: what was answered has its own beginning");
  }
  return checked(body, std::move(request));
}

ApiResult<TokenizeRequest> parse_tokenize_request(std::string_view text) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  TokenizeRequest request;
  // vLLM says "prompt" and "add_special_tokens", llama.cpp "content" and "add_special".
  bool named = false;
  for (const char* name : {"prompt", "content", "text"}) {
    if (!body.has(name)) continue;
    named = true;
    request.text = body.text(name).value_or("");
  }
  if (!named) body.complain("prompt", "is missing", "missing_required_parameter");
  for (const char* name : {"add_special_tokens", "add_special"}) {
    if (const auto value = body.boolean(name)) request.add_special = *value;
  }
  return checked(body, std::move(request));
}

ApiResult<std::vector<formats::TokenId>> parse_detokenize_request(std::string_view text) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  const auto ids = body.integers("tokens");
  if (!ids) body.complain("tokens", "is missing", "missing_required_parameter");
  std::vector<formats::TokenId> tokens;
  for (const std::int64_t id : ids.value_or(std::vector<std::int64_t>())) {
    if (id < 0 || id > kLargestId) body.complain("tokens", fmt::format("{} is no token id", id));
    tokens.push_back(static_cast<formats::TokenId>(id));
  }
  return checked(body, std::move(tokens));
}

}  // namespace krait::server
