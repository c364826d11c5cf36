// The routes that make vectors of texts, in OpenAI's dialect and in Ollama's.
#include <fmt/format.h>

#include "krait/server/embedding_task.h"
#include "krait/server/service.h"

namespace krait::server {

void Service::embed(const ExchangePtr& exchange, const ApiResult<EmbeddingRequest>& request,
                    std::function<std::string(const EmbeddingResult&)> body, WriteError write_error) {
  if (!request) return fail(exchange, request.error());
  if (const auto error = wrong_model(request->model)) return fail(exchange, *error);
  const std::int64_t width = model_.engine->model().info().width;
  if (request->dimensions && (request->pooling == runtime::Pooling::state || *request->dimensions != width)) {
    return fail(exchange,
                {.message = fmt::format("dimensions: vectors of this model have {} numbers by mean and last, and are "
                                        "not shortened",
                                        width),
                 .param = "dimensions",
                 .code = "unsupported_parameter"});
  }
  const std::string& key = exchange->request().key;
  EmbeddingPlan plan{.pooling = request->pooling,
                     .model = model_.card.name,
                     .key = key,
                     .priority = std::min(request->priority, keys_.limits_of(key).priority),
                     .body = std::move(body),
                     .write_error = std::move(write_error)};
  for (const PromptInput& input : request->inputs) plan.inputs.push_back(tokens_of(input, true));
  std::make_shared<EmbeddingTask>(exchange, std::move(plan), generator_)->start();
}

void Service::embeddings(const ExchangePtr& exchange, const std::string&) {
  const auto request = parse_embedding_request(exchange->request().body);
  const bool base64 = request && request->base64;
  embed(
      exchange, request, [base64](const EmbeddingResult& result) { return embedding_body(result, base64); },
      openai_error);
}

void Service::ollama_embed(const ExchangePtr& exchange, const std::string&) {
  embed(exchange, parse_ollama_embed(exchange->request().body), ollama_embed_body, ollama_error);
}

void Service::ollama_embeddings(const ExchangePtr& exchange, const std::string&) {
  embed(exchange, parse_ollama_embeddings(exchange->request().body), ollama_embeddings_body, ollama_error);
}

}  // namespace krait::server
