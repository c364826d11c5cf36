// The routes of Ollama's API.
#include "krait/server/ollama_api.h"
#include "krait/server/service.h"

namespace krait::server {

void Service::ollama_generate(const ExchangePtr& exchange, const std::string&) {
  auto request = parse_ollama_generate(exchange->request().body, options_.limits);
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  // As Ollama does for a model without a template: the system's text, then the prompt.
  std::string text = request->system;
  if (!text.empty()) text += "\n\n";
  text += request->prompt;
  const Input inputs[] = {{.prompt = std::move(text)}};
  generate(exchange, inputs, request->parameters, false, ollama_generate_format(model_.card.name, unix_time()),
           ollama_error);
}

void Service::ollama_chat(const ExchangePtr& exchange, const std::string&) {
  auto request = parse_ollama_chat(exchange->request().body, options_.limits);
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  auto input = chat_input(*request, true, nullptr);
  if (!input) return fail(exchange, input.error());
  const Input inputs[] = {*std::move(input)};
  generate(exchange, inputs, request->parameters, false, ollama_chat_format(model_.card.name, unix_time()),
           ollama_error);
}

void Service::ollama_tags(const ExchangePtr& exchange, const std::string&) {
  exchange->respond({.body = ollama_tags_body(model_.card)});
}

void Service::ollama_version(const ExchangePtr& exchange, const std::string&) {
  exchange->respond({.body = ollama_version_body(options_.version)});
}

}  // namespace krait::server
