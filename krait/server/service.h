// Who answers what: the table of routes, who may ask, and what is counted and logged. The routes themselves stand in
// routes_*.cpp, by family.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krait/server/answer_shelf.h"
#include "krait/server/answer_task.h"
#include "krait/server/api_keys.h"
#include "krait/server/constraint_cache.h"
#include "krait/server/embeddings_api.h"
#include "krait/server/generation.h"
#include "krait/server/generation_parameters.h"
#include "krait/server/http_server.h"
#include "krait/server/openai_api.h"
#include "krait/server/served_model.h"
#include "krait/server/state_shelf.h"

namespace krait::server {

struct ServiceOptions {
  std::string version;
  RequestLimits limits;
  ShelfOptions shelf;
  std::uint64_t body_bytes = 16 << 20;             // of requests in JSON
  std::vector<std::string> origins;                // that browsers may ask from; "*": any
  std::function<void(std::string_view line)> log;  // one line of JSON for every request; may be empty
};

class Service final : public HttpHandler {
 public:
  // All of them outlive the service.
  Service(const ServedModel& model, Generator& generator, ApiKeys& keys, ServiceOptions options);

  // For /ready and /metrics; before the server runs.
  void watch(const HttpServer& server) { server_ = &server; }

  // Method and path of each route, "{id}" standing for one part: for the test of openapi.json.
  static std::vector<std::pair<std::string, std::string>> route_names();

  Admission admit(HttpRequest& head) override;
  HttpAnswer refuse(int status, const std::string& message) override;
  void handle(std::shared_ptr<Exchange> exchange) override;
  void finished(const HttpRecord& record) override;

 private:
  using ExchangePtr = std::shared_ptr<Exchange>;
  using Answerer = void (Service::*)(const ExchangePtr& exchange, const std::string& id);
  enum class Body { none, json, state };
  struct Route {
    const char* method;
    const char* path;  // "{id}" stands for one part
    Answerer answer;
    Body body = Body::none;
    bool open = false;  // to everybody
  };
  struct Match {
    const Route* route = nullptr;
    std::string id;
    std::string allowed;  // the path's methods
  };
  // Against the requests that a key may have at once: looking at the server is always allowed.
  static bool counts(const Route& route) { return !route.open && route.body != Body::none; }
  static std::span<const Route> routes();
  static Match match(const std::string& method, const std::string& path);

  // routes_openai.cpp
  void completions(const ExchangePtr& exchange, const std::string& id);
  void chat_completions(const ExchangePtr& exchange, const std::string& id);
  void models(const ExchangePtr& exchange, const std::string& id);
  void model(const ExchangePtr& exchange, const std::string& id);
  void tokenize(const ExchangePtr& exchange, const std::string& id);
  void detokenize(const ExchangePtr& exchange, const std::string& id);
  // routes_responses.cpp
  void make_response(const ExchangePtr& exchange, const std::string& id);
  void show_response(const ExchangePtr& exchange, const std::string& id);
  void drop_response(const ExchangePtr& exchange, const std::string& id);
  // routes_ollama.cpp
  void ollama_generate(const ExchangePtr& exchange, const std::string& id);
  void ollama_chat(const ExchangePtr& exchange, const std::string& id);
  void ollama_tags(const ExchangePtr& exchange, const std::string& id);
  void ollama_version(const ExchangePtr& exchange, const std::string& id);
  // routes_embeddings.cpp
  void embeddings(const ExchangePtr& exchange, const std::string& id);
  void ollama_embed(const ExchangePtr& exchange, const std::string& id);
  void ollama_embeddings(const ExchangePtr& exchange, const std::string& id);
  void embed(const ExchangePtr& exchange, const ApiResult<EmbeddingRequest>& request,
             std::function<std::string(const EmbeddingResult&)> body, WriteError write_error);
  // routes_states.cpp
  void make_state(const ExchangePtr& exchange, const std::string& id);
  void list_states(const ExchangePtr& exchange, const std::string& id);
  void download_state(const ExchangePtr& exchange, const std::string& id);
  void upload_state(const ExchangePtr& exchange, const std::string& id);
  void fork_state(const ExchangePtr& exchange, const std::string& id);
  void drop_state(const ExchangePtr& exchange, const std::string& id);
  // routes_status.cpp
  void health(const ExchangePtr& exchange, const std::string& id);
  void ready(const ExchangePtr& exchange, const std::string& id);
  void metrics(const ExchangePtr& exchange, const std::string& id);
  // routes_admin.cpp
  void show_core_groups(const ExchangePtr& exchange, const std::string& id);
  void set_core_groups(const ExchangePtr& exchange, const std::string& id);
  // routes_page.cpp
  void page(const ExchangePtr& exchange, const std::string& id);
  void page_file(const ExchangePtr& exchange, const std::string& name);
  void openapi(const ExchangePtr& exchange, const std::string& id);
  void info(const ExchangePtr& exchange, const std::string& id);

  // A request of any dialect, read: `inputs` become sequences, `parameters.best_of` for each.
  struct Input {
    PromptInput prompt;
    bool add_start = true;
    std::vector<std::string> stop = {};
    ToolUse tools = {};              // that the reply may call
    const ToolForm* form = nullptr;  // of the calls
    bool hidden_marks = false;       // the form's marks are special tokens, which no text shows
  };
  using KeepAnswer = decltype(AnswerPlan::keep_answer);
  void generate(const ExchangePtr& exchange, std::span<const Input> inputs, const GenerationParameters& parameters,
                bool echo, std::unique_ptr<AnswerFormat> format, WriteError write_error, KeepAnswer keep_answer = {});
  // Keeps the tokens of a chat or completion that asks for it.
  KeepAnswer keeper(const GenerationParameters& parameters, const std::string& id, const std::string& owner);
  // What the reply to an input has to keep to; null: nothing. (service_constraints.cpp)
  ApiResult<std::shared_ptr<const runtime::Constraint>> constraint_of(const StructuredOutput& structured,
                                                                      const Input& input);
  std::optional<ApiError> wrong_model(const std::string& name) const;
  // `ask`: the assistant is to speak next. `before`: the tokens of the state that it follows, if it follows one, empty
  // where they are not known.
  ApiResult<Input> chat_input(const Conversation& conversation, bool ask,
                              const std::vector<formats::TokenId>* before) const;
  // The same after the state of that id, if it is not empty.
  ApiResult<Input> chat_input(const Conversation& conversation, bool ask, const std::string& state,
                              const std::string& owner);
  std::vector<formats::TokenId> tokens_of(const PromptInput& prompt, bool at_start) const;
  ApiResult<ShownState> keep(const std::string& owner, runtime::State state, std::vector<formats::TokenId> tokens,
                             std::optional<double> ttl_seconds);
  void fail(const ExchangePtr& exchange, const ApiError& error) const;
  void add_cors(const HttpRequest& request, HttpAnswer& answer) const;
  bool origin_allowed(std::string_view origin) const;

  const ServedModel& model_;
  Generator& generator_;
  ApiKeys& keys_;
  const ServiceOptions options_;
  StateShelf shelf_;
  AnswerShelf kept_answers_;
  ConstraintCache constraints_;
  const HttpServer* server_ = nullptr;
  std::atomic<std::uint64_t> answers_{0};  // numbers ids of answers
  const std::string id_stem_;

  std::mutex counts_mutex_;
  std::map<std::pair<std::string, int>, std::uint64_t> requests_;  // by route and status
  Histogram request_seconds_;
  std::uint64_t received_bytes_ = 0;
  std::uint64_t sent_bytes_ = 0;
  std::uint64_t disconnects_ = 0;
};

// An error in OpenAI's shape, with the headers that belong to it.
HttpAnswer openai_error(const ApiError& error);
HttpAnswer ollama_error(const ApiError& error);
std::int64_t unix_time();

}  // namespace krait::server
