#include "krait/server/service.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <random>

#include "krait/core/check.h"
#include "krait/core/random.h"
#include "krait/runtime/prompt.h"

namespace krait::server {
namespace {

std::vector<double> duration_bounds() { return {0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}; }

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

void add_retry_after(const ApiError& error, HttpAnswer& answer) {
  if (error.retry_after_seconds > 0) {
    answer.headers.push_back({"retry-after", fmt::format("{:.0f}", std::ceil(error.retry_after_seconds))});
  }
}

}  // namespace

std::int64_t unix_time() { return static_cast<std::int64_t>(std::time(nullptr)); }

HttpAnswer openai_error(const ApiError& error) {
  HttpAnswer answer{.status = error.status, .body = error_body(error)};
  add_retry_after(error, answer);
  return answer;
}

HttpAnswer ollama_error(const ApiError& error) {
  HttpAnswer answer{.status = error.status, .body = ollama_error_body(error)};
  add_retry_after(error, answer);
  return answer;
}

Service::Service(const ServedModel& model, Generator& generator, ApiKeys& keys, ServiceOptions options)
    : model_(model),
      generator_(generator),
      keys_(keys),
      options_(std::move(options)),
      shelf_(options_.shelf, random_seed()),
      constraints_(*model.tokenizer, model.drawable, model.end_ids),
      id_stem_(fmt::format("{:016x}", Random(random_seed()).next())),
      request_seconds_(duration_bounds()) {}

std::span<const Service::Route> Service::routes() {
  static constexpr Route kRoutes[] = {
      {"POST", "/v1/chat/completions", &Service::chat_completions, Body::json},
      {"POST", "/v1/completions", &Service::completions, Body::json},
      {"POST", "/v1/responses", &Service::make_response, Body::json},
      {"GET", "/v1/responses/{id}", &Service::show_response},
      {"DELETE", "/v1/responses/{id}", &Service::drop_response},
      {"POST", "/v1/embeddings", &Service::embeddings, Body::json},
      {"GET", "/v1/models", &Service::models},
      {"GET", "/v1/models/{id}", &Service::model},
      {"POST", "/tokenize", &Service::tokenize, Body::json},
      {"POST", "/detokenize", &Service::detokenize, Body::json},
      {"POST", "/v1/states", &Service::make_state, Body::json},
      {"GET", "/v1/states", &Service::list_states},
      {"GET", "/v1/states/{id}", &Service::download_state},
      {"PUT", "/v1/states/{id}", &Service::upload_state, Body::state},
      {"DELETE", "/v1/states/{id}", &Service::drop_state},
      {"POST", "/v1/states/{id}/fork", &Service::fork_state, Body::json},
      {"POST", "/api/generate", &Service::ollama_generate, Body::json},
      {"POST", "/api/chat", &Service::ollama_chat, Body::json},
      {"POST", "/api/embed", &Service::ollama_embed, Body::json},
      {"POST", "/api/embeddings", &Service::ollama_embeddings, Body::json},
      {"GET", "/api/tags", &Service::ollama_tags},
      {"GET", "/api/version", &Service::ollama_version},
      {"GET", "/health", &Service::health, Body::none, true},
      {"GET", "/ready", &Service::ready, Body::none, true},
      {"GET", "/metrics", &Service::metrics},
      {"GET", "/v1/admin/core-groups", &Service::show_core_groups},
      {"PUT", "/v1/admin/core-groups", &Service::set_core_groups, Body::json},
      {"GET", "/", &Service::page, Body::none, true},
      {"GET", "/page/{id}", &Service::page_file, Body::none, true},
      {"GET", "/openapi.json", &Service::openapi, Body::none, true},
      {"GET", "/v1/info", &Service::info},
  };
  return kRoutes;
}

std::vector<std::pair<std::string, std::string>> Service::route_names() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const Route& route : routes()) names.emplace_back(route.method, route.path);
  return names;
}

Service::Match Service::match(const std::string& method, const std::string& path) {
  constexpr std::string_view kId = "{id}";
  Match found;
  for (const Route& route : routes()) {
    const std::string_view pattern = route.path;
    const std::size_t at = pattern.find(kId);
    std::string id;
    if (at == std::string_view::npos) {
      if (path != pattern) continue;
    } else {
      const std::string_view tail = pattern.substr(at + kId.size());
      if (path.size() <= at + tail.size() || !path.starts_with(pattern.substr(0, at)) || !path.ends_with(tail)) {
        continue;
      }
      id = path.substr(at, path.size() - at - tail.size());
      if (id.find('/') != std::string::npos) continue;
    }
    found.allowed += (found.allowed.empty() ? "" : ", ") + std::string(route.method);
    if (method == route.method || (method == "HEAD" && std::string_view(route.method) == "GET")) {
      found.route = &route;
      found.id = std::move(id);
    }
  }
  return found;
}

bool Service::origin_allowed(std::string_view origin) const {
  return std::ranges::any_of(options_.origins,
                             [&](const std::string& allowed) { return allowed == "*" || allowed == origin; });
}

void Service::add_cors(const HttpRequest& request, HttpAnswer& answer) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty() || !origin_allowed(origin)) return;
  answer.headers.push_back({"access-control-allow-origin", std::string(origin)});
  answer.headers.push_back({"access-control-expose-headers", "x-request-id, retry-after"});
  answer.headers.push_back({"vary", "origin"});
}

HttpHandler::Admission Service::admit(HttpRequest& head) {
  const auto refused = [&](ApiError error, std::vector<HttpHeader> headers = {}) {
    HttpAnswer answer = head.path.starts_with("/api/") ? ollama_error(error) : openai_error(error);
    for (HttpHeader& header : headers) answer.headers.push_back(std::move(header));
    add_cors(head, answer);
    return Admission{.refusal = std::move(answer)};
  };
  const Match found = match(head.method, head.path);
  if (found.allowed.empty()) {
    return refused(error_of_status(404, fmt::format("there is nothing at {} {}", head.method, head.path)));
  }
  if (head.method == "OPTIONS") {
    HttpAnswer answer{.status = 204, .content_type = "", .headers = {{"allow", found.allowed + ", OPTIONS"}}};
    add_cors(head, answer);
    if (origin_allowed(head.header("origin"))) {
      answer.headers.push_back({"access-control-allow-methods", found.allowed});
      // Clients send headers of their own making, such as x-stainless-os.
      const std::string_view asked = head.header("access-control-request-headers");
      answer.headers.push_back(
          {"access-control-allow-headers", asked.empty() ? "authorization, content-type" : std::string(asked)});
      answer.headers.push_back({"access-control-max-age", "600"});
    }
    return {.refusal = std::move(answer)};
  }
  if (found.route == nullptr) {
    return refused(
        error_of_status(405, fmt::format("{} does not take {}, but {}", head.path, head.method, found.allowed)),
        {{"allow", found.allowed}});
  }
  if (!found.route->open) {
    const auto name = keys_.name_of(head.header("authorization"), head.header("x-api-key"));
    if (!name) {
      ApiError error = error_of_status(401,
                                       "no valid API key came with the request: send it as "
                                       "\"Authorization: Bearer KEY\"");
      error.code = "invalid_api_key";
      return refused(std::move(error), {{"www-authenticate", "Bearer"}});
    }
    head.key = *name;
    if (counts(*found.route) && !keys_.begin(head.key)) {
      ApiError error =
          error_of_status(429, fmt::format("{} requests of this key are being answered, which is its limit",
                                           keys_.limits_of(head.key).requests));
      error.code = "too_many_requests";
      error.retry_after_seconds = 1;
      return refused(std::move(error));
    }
  }
  Admission admission;
  switch (found.route->body) {
    case Body::none: admission.body_bytes = 0; break;
    case Body::json: admission.body_bytes = options_.body_bytes; break;
    // The header of an object, the state, and beside it logits and the tokens that it has read. A state that grows with
    // its text may take all of the memory for states.
    case Body::state: {
      const runtime::StatePool& states = model_.engine->states();
      const std::uint64_t largest = states.bytes_per_state() * (states.page_bytes() > 0 ? states.capacity() : 1);
      admission.body_bytes = formats::kStateFileMaximumHeader + options_.body_bytes +
                             std::min(keys_.limits_of(head.key).state_bytes, largest);
      break;
    }
  }
  return admission;
}

HttpAnswer Service::refuse(int status, const std::string& message) {
  ApiError error = error_of_status(status, message);
  if (status == 503) error.retry_after_seconds = 1;
  return openai_error(error);
}

namespace {

// Puts the headers for browsers on every answer of an exchange.
class CorsExchange final : public Exchange {
 public:
  CorsExchange(std::shared_ptr<Exchange> inner, std::vector<HttpHeader> headers)
      : inner_(std::move(inner)), headers_(std::move(headers)) {}
  const HttpRequest& request() const override { return inner_->request(); }
  void respond(HttpAnswer answer) override { inner_->respond(with_headers(std::move(answer))); }
  void begin(HttpAnswer head) override { inner_->begin(with_headers(std::move(head))); }
  bool send(std::string_view piece) override { return inner_->send(piece); }
  void end() override { inner_->end(); }
  void cut() override { inner_->cut(); }
  void on_gone(std::function<void()> act) override { inner_->on_gone(std::move(act)); }
  void note(std::string_view name, std::string_view value) override { inner_->note(name, value); }

 private:
  HttpAnswer with_headers(HttpAnswer answer) const {
    answer.headers.insert(answer.headers.end(), headers_.begin(), headers_.end());
    return answer;
  }
  const std::shared_ptr<Exchange> inner_;
  const std::vector<HttpHeader> headers_;
};

}  // namespace

void Service::handle(std::shared_ptr<Exchange> exchange) {
  const Match found = match(exchange->request().method, exchange->request().path);
  KRAIT_CHECK(found.route != nullptr, "a request without a route was admitted: {}", exchange->request().path);
  HttpAnswer headers;
  add_cors(exchange->request(), headers);
  if (!headers.headers.empty()) exchange = std::make_shared<CorsExchange>(exchange, std::move(headers.headers));
  (this->*found.route->answer)(exchange, found.id);
}

void Service::finished(const HttpRecord& record) {
  const Match found = match(record.method, record.path);
  if (record.admitted && found.route != nullptr && counts(*found.route)) keys_.end(record.key);
  {
    const std::lock_guard lock(counts_mutex_);
    ++requests_[{found.route != nullptr ? found.route->path : "other", record.status}];
    request_seconds_.add(record.seconds);
    received_bytes_ += record.request_bytes;
    sent_bytes_ += record.answer_bytes;
    if (!record.complete) ++disconnects_;
  }
  if (!options_.log) return;
  nlohmann::ordered_json line = {
      {"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(unix_time())))},
      {"id", record.id},
      {"peer", record.peer},
      {"key", record.key},
      {"method", record.method},
      {"path", record.path},
      {"status", record.status},
      {"complete", record.complete},
      {"seconds", std::round(record.seconds * 1e6) / 1e6},
      {"request_bytes", record.request_bytes},
      {"answer_bytes", record.answer_bytes}};
  for (const HttpHeader& note : record.notes) line[note.name] = note.value;
  options_.log(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void Service::fail(const ExchangePtr& exchange, const ApiError& error) const {
  exchange->note("error", error.log.empty() ? error.message : error.log);
  exchange->respond(exchange->request().path.starts_with("/api/") ? ollama_error(error) : openai_error(error));
}

std::optional<ApiError> Service::wrong_model(const std::string& name) const {
  if (model_.answers_to(name)) return std::nullopt;
  ApiError error =
      error_of_status(404, fmt::format("the model \"{}\" is not served here; \"{}\" is", name, model_.card.name));
  error.param = "model";
  error.code = "model_not_found";
  return error;
}

std::vector<formats::TokenId> Service::tokens_of(const PromptInput& prompt, bool at_start) const {
  if (const auto* ids = std::get_if<std::vector<formats::TokenId>>(&prompt)) {
    model_.engine->check_tokens(*ids);
    return *ids;
  }
  return runtime::encode_prompt(model_.engine->model().info(), *model_.tokenizer, std::get<std::string>(prompt),
                                at_start);
}

ApiResult<Service::Input> Service::chat_input(const Conversation& conversation, bool ask,
                                              const std::vector<formats::TokenId>* before) const {
  std::optional<std::string> text_before;
  if (before != nullptr && !before->empty()) {
    // No template closes a message with more than that.
    constexpr std::size_t kTail = 64;
    text_before =
        model_.tokenizer->decode(std::span(*before).last(std::min(kTail, before->size())), /*skip_special=*/false);
  }
  auto prompt = before == nullptr ? model_.chat.prompt(conversation, ask)
                                  : model_.chat.continuation(conversation, ask, text_before);
  if (!prompt) return std::unexpected(std::move(prompt).error());
  Input input{.prompt = {}, .add_start = prompt->add_start, .stop = std::move(prompt->stop)};
  if (ask && !conversation.tools.tools.empty()) {
    input.tools = conversation.tools;
    input.form = &model_.chat.tool_form(conversation);
    const auto mark = model_.tokenizer->token_to_id(input.form->opening);
    input.hidden_marks = mark && model_.tokenizer->is_special(*mark);
    // A constrained text has no special tokens: the mark is read rather than written.
    if (input.tools.required && input.hidden_marks) prompt->text += input.form->opening + input.form->indent;
  }
  input.prompt = std::move(prompt->text);
  return input;
}

ApiResult<Service::Input> Service::chat_input(const Conversation& conversation, bool ask, const std::string& state,
                                              const std::string& owner) {
  if (state.empty()) return chat_input(conversation, ask, nullptr);
  const auto found = shelf_.find(state, owner, ShelfClock::now());
  if (!found) return std::unexpected(found.error());
  return chat_input(conversation, ask, &found->tokens);
}

ApiResult<ShownState> Service::keep(const std::string& owner, runtime::State state,
                                    std::vector<formats::TokenId> tokens, std::optional<double> ttl_seconds) {
  const auto now = ShelfClock::now();
  const std::uint64_t bytes = model_.bytes_of(state);
  auto kept = shelf_.put(owner, keys_.limits_of(owner), std::move(state), std::move(tokens), bytes, ttl_seconds, now);
  if (!kept) return std::unexpected(std::move(kept).error());
  return ShownState{kept->id, kept->bytes, kept->state.position(),
                    std::chrono::duration<double>(kept->expires - now).count()};
}

void Service::generate(const ExchangePtr& exchange, std::span<const Input> inputs,
                       const GenerationParameters& parameters, bool echo, std::unique_ptr<AnswerFormat> format,
                       WriteError write_error, KeepAnswer keep_answer) {
  const HttpRequest& request = exchange->request();
  KeptState from;
  if (!parameters.state.empty()) {
    auto found = shelf_.find(parameters.state, request.key, ShelfClock::now());
    if (!found) return fail(exchange, found.error());
    from = *std::move(found);
  }
  AnswerPlan plan;
  plan.format = std::move(format);
  plan.write_error = std::move(write_error);
  plan.keep_answer = std::move(keep_answer);
  plan.stream = parameters.stream;
  plan.with_logprobs = parameters.logprobs.has_value();
  plan.per_prompt = static_cast<std::size_t>(parameters.n);
  plan.sequences_per_prompt = static_cast<std::size_t>(parameters.best_of);
  if (parameters.return_state) {
    plan.keep_state = [this, owner = request.key](runtime::State state,
                                                  std::vector<formats::TokenId> tokens) -> ApiResult<ShownState> {
      return keep(owner, std::move(state), std::move(tokens), std::nullopt);
    };
  }
  const std::uint64_t seed = parameters.seed.value_or(random_seed());
  for (const Input& input : inputs) {
    const std::vector<formats::TokenId> tokens = tokens_of(input.prompt, !from.state && input.add_start);
    if (tokens.empty() && (!from.state || from.state.logits().empty())) {
      return fail(exchange, {.message = "the prompt is empty, and there is nothing to go on from", .param = "prompt"});
    }
    const auto constraint = constraint_of(parameters.structured, input);
    if (!constraint) return fail(exchange, constraint.error());
    for (std::int64_t i = 0; i < parameters.best_of; ++i) {
      AnswerPlan::Sequence sequence;
      GenerationRequest& wanted = sequence.request;
      wanted.prompt = tokens;
      wanted.state = from.state;
      wanted.sampler = parameters.sampler;
      // Sequences of one request draw apart; the first as a request of one would.
      wanted.sampler.seed = seed + static_cast<std::uint64_t>(i);
      wanted.max_tokens = parameters.max_tokens;
      if (*constraint) wanted.mask = mask_of(*constraint);
      if (!parameters.ignore_eos || *constraint) wanted.stop_ids = model_.end_ids;
      wanted.stop_strings = parameters.stop;
      // Where the grammar says how the text ends, the form of chats does not.
      if (!*constraint) wanted.stop_strings.insert(wanted.stop_strings.end(), input.stop.begin(), input.stop.end());
      wanted.logprobs = parameters.logprobs;
      if (parameters.best_of > parameters.n && !wanted.logprobs) wanted.logprobs = 0;
      wanted.prompt_logprobs = parameters.prompt_logprobs;
      wanted.priority = std::min(parameters.priority, keys_.limits_of(request.key).priority);
      wanted.key = request.key;
      wanted.return_state = parameters.return_state;
      const runtime::Sampler check(wanted.sampler, model_.drawable);  // throws what is wrong with its options
      if (echo) {
        const auto* text = std::get_if<std::string>(&input.prompt);
        sequence.echo = text != nullptr ? *text : model_.tokenizer->decode(tokens, true);
      }
      if (input.form != nullptr) {
        sequence.calls = std::make_unique<ToolCallReader>(
            *input.form, input.tools, ToolCallReader::Options{input.tools.required, input.hidden_marks, random_seed()});
      }
      sequence.prompt_logprobs = wanted.prompt_logprobs.has_value();
      sequence.tokens_before = from.tokens;
      sequence.tokens_known = !from.state || !from.tokens.empty();
      plan.sequences.push_back(std::move(sequence));
    }
  }
  std::make_shared<AnswerTask>(exchange, std::move(plan), generator_, model_)->start();
}

}  // namespace krait::server
