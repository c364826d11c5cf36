// The routes of OpenAI's API, and the two that turn text into tokens and back.
#include <fmt/format.h>

#include "krait/server/service.h"

namespace krait::server {

void Service::completions(const ExchangePtr& exchange, const std::string&) {
  auto request = parse_completion_request(exchange->request().body, options_.limits);
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  std::vector<Input> inputs;
  for (PromptInput& prompt : request->prompts) inputs.push_back({.prompt = std::move(prompt)});
  std::string answer = fmt::format("cmpl-{}{}", id_stem_, ++answers_);
  generate(exchange, inputs, request->parameters, request->echo,
           completion_format({.id = answer,
                              .created = unix_time(),
                              .model = model_.card.name,
                              .include_usage = request->parameters.include_usage}),
           openai_error, keeper(request->parameters, answer, exchange->request().key));
}

void Service::chat_completions(const ExchangePtr& exchange, const std::string&) {
  auto request = parse_chat_request(exchange->request().body, options_.limits);
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  auto input = chat_input(*request, true, request->parameters.state, exchange->request().key);
  if (!input) return fail(exchange, input.error());
  const Input inputs[] = {*std::move(input)};
  std::string answer = fmt::format("chatcmpl-{}{}", id_stem_, ++answers_);
  generate(exchange, inputs, request->parameters, false,
           chat_format({.id = answer,
                        .created = unix_time(),
                        .model = model_.card.name,
                        .include_usage = request->parameters.include_usage}),
           openai_error, keeper(request->parameters, answer, exchange->request().key));
}

Service::KeepAnswer Service::keeper(const GenerationParameters& parameters, const std::string& id,
                                    const std::string& owner) {
  if (!parameters.store) return {};
  return [this, id, owner](const std::string& body, const SequenceResult&, std::vector<formats::TokenId> tokens) {
    KeptAnswer kept;
    kept.id = id;
    kept.owner = owner;
    kept.body = body;
    kept.tokens = std::move(tokens);
    kept_answers_.put(std::move(kept));
  };
}

void Service::models(const ExchangePtr& exchange, const std::string&) {
  exchange->respond({.body = models_body(model_.card.name, model_.card.created)});
}

void Service::model(const ExchangePtr& exchange, const std::string& id) {
  if (const auto error = wrong_model(id)) return fail(exchange, *error);
  exchange->respond({.body = model_body(model_.card.name, model_.card.created)});
}

void Service::tokenize(const ExchangePtr& exchange, const std::string&) {
  const auto request = parse_tokenize_request(exchange->request().body);
  if (!request) return fail(exchange, request.error());
  exchange->respond({.body = tokens_body(request->add_special ? tokens_of(request->text, true)
                                                              : model_.tokenizer->encode(request->text))});
}

void Service::detokenize(const ExchangePtr& exchange, const std::string&) {
  const auto tokens = parse_detokenize_request(exchange->request().body);
  if (!tokens) return fail(exchange, tokens.error());
  model_.engine->check_tokens(*tokens);
  exchange->respond({.body = text_body(model_.tokenizer->decode(*tokens, false))});
}

}  // namespace krait::server
