// The state API: states of sequences that clients make, keep, take away and bring back. What is uploaded is verified as
// a state file is (runtime/state_saving.h), and refused where anything differs.
#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "krait/core/hash.h"
#include "krait/runtime/state_saving.h"
#include "krait/server/service.h"

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

Json describe(const KeptState& kept) {
  const auto now = ShelfClock::now();
  const auto seconds = [](auto duration) { return std::chrono::duration<double>(duration).count(); };
  return {{"id", kept.id},
          {"object", "state"},
          {"bytes", kept.bytes},
          {"position", kept.state.position()},
          {"tokens_known", !kept.tokens.empty()},
          {"age_seconds", seconds(now - kept.made)},
          {"expires_in_seconds", seconds(kept.expires - now)}};
}

HttpAnswer described(const KeptState& kept, int status) { return {.status = status, .body = describe(kept).dump()}; }

// Answers when the text has been read.
class StateSink final : public GenerationSink {
 public:
  using Keep = std::function<HttpAnswer(runtime::State)>;
  StateSink(std::shared_ptr<Exchange> exchange, Keep keep) : exchange_(std::move(exchange)), keep_(std::move(keep)) {}
  void started(GenerationStarted) override {}
  void token(GeneratedToken) override {}
  void finished(GenerationFinished event) override { exchange_->respond(keep_(std::move(event.state))); }
  void failed(Error error) override {
    exchange_->note("error", error.message);
    exchange_->respond(openai_error(error_of(error)));
  }

 private:
  const std::shared_ptr<Exchange> exchange_;
  const Keep keep_;
};

std::optional<double> ttl_of(const HttpRequest& request, std::optional<ApiError>& error) {
  const auto text = query_value(request.query, "ttl_seconds");
  if (!text) return std::nullopt;
  double seconds = 0;
  const auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  if (ec == std::errc() && end == text->data() + text->size() && seconds >= 0) return seconds;
  error =
      ApiError{.message = fmt::format("ttl_seconds: \"{}\" is no number of seconds", *text), .param = "ttl_seconds"};
  return std::nullopt;
}

}  // namespace

void Service::make_state(const ExchangePtr& exchange, const std::string&) {
  const HttpRequest& request = exchange->request();
  auto wanted = parse_state_request(request.body);
  if (!wanted) return fail(exchange, wanted.error());
  KeptState from;
  if (!wanted->state.empty()) {
    auto found = shelf_.find(wanted->state, request.key, ShelfClock::now());
    if (!found) return fail(exchange, found.error());
    from = *std::move(found);
  }
  Input input{.prompt = wanted->text};
  if (!wanted->messages.empty()) {
    auto read = chat_input(*wanted, false, from.state ? &from.tokens : nullptr);
    if (!read) return fail(exchange, read.error());
    input = *std::move(read);
  } else if (!wanted->response_id.empty()) {
    // Its state is found in the store of states, or computed again: the tokens are the same.
    const auto answer = kept_answers_.find(wanted->response_id, request.key);
    if (!answer) return fail(exchange, answer.error());
    if ((*answer)->tokens.empty()) {
      return fail(exchange,
                  {.message = fmt::format("response_id: the tokens of \"{}\" are not known: it went on from an "
                                          "uploaded state without them",
                                          wanted->response_id),
                   .param = "response_id"});
    }
    input.prompt = (*answer)->tokens;
  }
  std::vector<formats::TokenId> tokens = tokens_of(input.prompt, !from.state && input.add_start);
  if (tokens.empty()) return fail(exchange, {.message = "text: is empty, and no token starts a text", .param = "text"});

  GenerationRequest read;
  read.prompt = tokens;
  read.state = from.state;
  read.max_tokens = 0;
  read.key = request.key;
  read.return_state = true;
  std::vector<formats::TokenId> all = std::move(from.tokens);
  if (!from.state || !all.empty()) all.insert(all.end(), tokens.begin(), tokens.end());
  auto keep_it = [this, owner = request.key, all = std::move(all), ttl = wanted->ttl_seconds](runtime::State state) {
    const std::uint64_t bytes = model_.bytes_of(state);
    auto kept = shelf_.put(owner, keys_.limits_of(owner), std::move(state), all, bytes, ttl, ShelfClock::now());
    return kept ? described(*kept, 201) : openai_error(kept.error());
  };
  auto id = generator_.submit(std::move(read), std::make_shared<StateSink>(exchange, std::move(keep_it)));
  if (!id) return fail(exchange, error_of(id.error()));
  exchange->on_gone([this, id = *id] { generator_.cancel(id); });
}

void Service::list_states(const ExchangePtr& exchange, const std::string&) {
  Json data = Json::array();
  for (const KeptState& kept : shelf_.list(exchange->request().key, ShelfClock::now())) data.push_back(describe(kept));
  exchange->respond({.body = Json{{"object", "list"}, {"data", std::move(data)}}.dump()});
}

void Service::download_state(const ExchangePtr& exchange, const std::string& id) {
  const auto kept = shelf_.find(id, exchange->request().key, ShelfClock::now());
  if (!kept) return fail(exchange, kept.error());
  const runtime::StateSections sections(*model_.engine, model_.identity, kept->state, {.tokens = kept->tokens});
  const auto bytes = formats::encode_state(sections.description(), sections.sources());
  if (!bytes) return fail(exchange, error_of(bytes.error()));
  exchange->respond({.content_type = "application/octet-stream",
                     .body = std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size()),
                     .headers = {{"content-disposition", fmt::format("attachment; filename=\"{}.state\"", id)}}});
}

void Service::upload_state(const ExchangePtr& exchange, const std::string& id) {
  const HttpRequest& request = exchange->request();
  if (!StateShelf::fit_for_id(id)) {
    return fail(exchange, {.message = "the id of a state has letters, digits, - and _, at most 64", .param = "id"});
  }
  std::optional<ApiError> wrong;
  const auto ttl = ttl_of(request, wrong);
  if (wrong) return fail(exchange, *wrong);
  const auto object = formats::StateObject::parse(std::as_bytes(std::span(request.body)), id);
  if (!object) return fail(exchange, error_of(object.error()));
  auto restored = runtime::restore_state(*object, *model_.engine, model_.identity);
  if (!restored) return fail(exchange, error_of(restored.error()));
  // The tokens of an object are as good as who wrote it: they are kept where they are those of the state.
  if (extend_prefix({}, restored->tokens) != restored->state.prefix()) restored->tokens.clear();
  const std::uint64_t bytes = model_.bytes_of(restored->state);
  const auto kept = shelf_.put_as(id, request.key, keys_.limits_of(request.key), std::move(restored->state),
                                  std::move(restored->tokens), bytes, ttl, ShelfClock::now());
  if (!kept) return fail(exchange, kept.error());
  exchange->respond(described(*kept, 201));
}

void Service::fork_state(const ExchangePtr& exchange, const std::string& id) {
  const HttpRequest& request = exchange->request();
  std::optional<ApiError> wrong;
  const auto ttl = ttl_of(request, wrong);
  if (wrong) return fail(exchange, *wrong);
  auto kept = shelf_.find(id, request.key, ShelfClock::now());
  if (!kept) return fail(exchange, kept.error());
  const auto fork = shelf_.put(request.key, keys_.limits_of(request.key), std::move(kept->state),
                               std::move(kept->tokens), kept->bytes, ttl, ShelfClock::now());
  if (!fork) return fail(exchange, fork.error());
  exchange->respond(described(*fork, 201));
}

void Service::drop_state(const ExchangePtr& exchange, const std::string& id) {
  const HttpRequest& request = exchange->request();
  const auto kept = shelf_.find(id, request.key, ShelfClock::now());
  if (!kept) return fail(exchange, kept.error());
  shelf_.drop(id, request.key, ShelfClock::now());
  exchange->respond({.body = Json{{"id", id}, {"object", "state.deleted"}, {"deleted", true}}.dump()});
}

}  // namespace krait::server
