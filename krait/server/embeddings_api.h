// Requests for embeddings and their answers, in OpenAI's form (/v1/embeddings) and in Ollama's (/api/embed and the
// older /api/embeddings): reading and writing JSON, and nothing else.
//
// A member beyond OpenAI's: pooling ("mean", "last" or "state", runtime/pooling.h). `dimensions` other than the length
// that vectors have is refused: only models trained for it keep their meaning when vectors are cut.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/runtime/pooling.h"
#include "krait/server/api_error.h"
#include "krait/server/prompt_input.h"

namespace krait::server {

struct EmbeddingRequest {
  static constexpr std::size_t kMostInputs = 2048;

  std::string model;  // empty: not named
  std::vector<PromptInput> inputs;
  runtime::Pooling pooling = runtime::Pooling::mean;
  std::optional<std::int64_t> dimensions;
  bool base64 = false;
  int priority = 0;
};

struct EmbeddingResult {
  std::vector<std::vector<float>> vectors;  // of length 1
  std::string model;
  std::int64_t prompt_tokens = 0;
  double seconds = 0;
};

ApiResult<EmbeddingRequest> parse_embedding_request(std::string_view body);
std::string embedding_body(const EmbeddingResult& result, bool base64);

ApiResult<EmbeddingRequest> parse_ollama_embed(std::string_view body);
std::string ollama_embed_body(const EmbeddingResult& result);
ApiResult<EmbeddingRequest> parse_ollama_embeddings(std::string_view body);  // one "prompt"
std::string ollama_embeddings_body(const EmbeddingResult& result);

// Little-endian f32, in base64 (RFC 4648).
std::string base64_of(std::span<const float> vector);
// To the length 1; zero stays zero.
void normalise(std::span<float> vector);

}  // namespace krait::server
