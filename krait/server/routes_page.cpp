// The page at / with its files, the description of all routes, and what the page has to know of model and server.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "krait/core/check.h"
#include "krait/server/embedded_file.h"
#include "krait/server/service.h"

namespace krait::server {
namespace {

// The page's own files and its own server, and no inline script: what a model writes cannot become one.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

HttpAnswer page_answer(const EmbeddedFile& file, const HttpRequest& request) {
  HttpAnswer answer = embedded_answer(file, request);
  answer.headers.push_back({"content-security-policy", kPagePolicy});
  answer.headers.push_back({"referrer-policy", "no-referrer"});
  answer.headers.push_back({"cross-origin-opener-policy", "same-origin"});
  return answer;
}

}  // namespace

void Service::page(const ExchangePtr& exchange, const std::string&) {
  const EmbeddedFile* file = find_embedded_file("page/index.html");
  KRAIT_CHECK(file != nullptr, "page/index.html is not embedded");
  exchange->respond(page_answer(*file, exchange->request()));
}

void Service::page_file(const ExchangePtr& exchange, const std::string& name) {
  const EmbeddedFile* file = find_embedded_file("page/" + name);
  if (file == nullptr) return fail(exchange, error_of_status(404, fmt::format("the page has no file {}", name)));
  exchange->respond(page_answer(*file, exchange->request()));
}

void Service::openapi(const ExchangePtr& exchange, const std::string&) {
  const EmbeddedFile* file = find_embedded_file("openapi.json");
  KRAIT_CHECK(file != nullptr, "openapi.json is not embedded");
  exchange->respond(embedded_answer(*file, exchange->request()));
}

void Service::info(const ExchangePtr& exchange, const std::string&) {
  const models::ModelInfo& model = model_.engine->model().info();
  const models::StateLayout& layout = model_.engine->model().state_layout();
  const KeyLimits key = keys_.limits_of(exchange->request().key);
  const nlohmann::ordered_json body = {
      {"object", "info"},
      {"version", options_.version},
      {"model",
       {{"id", model_.card.name},
        {"architecture", model_.card.architecture},
        {"weights", model_.card.weights},
        {"parameters", model.parameters},
        {"weight_bytes", model.weight_bytes},
        {"layers", model.layers},
        {"d_model", model.width},
        {"vocabulary", model.vocabulary}}},
      {"chat_template", model_.chat.has_template()},
      {"state",
       {{"bytes", layout.bytes()},
        {"has_attention_pages", layout.page_bytes() > 0},
        {"page_bytes", layout.page_bytes()},
        {"page_tokens", models::StateLayout::kPageTokens},
        {"ttl_seconds", options_.shelf.ttl.count()},
        {"most", std::min(key.states, options_.shelf.states)}}},
      {"limits", {{"max_tokens", options_.limits.most_tokens}, {"requests", key.requests}}}};
  exchange->respond({.body = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)});
}

}  // namespace krait::server
