#include "krait/server/embeddings_api.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace krait::server {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

ApiResult<EmbeddingRequest> parse(std::string_view text, std::string_view input, bool openai) {
  auto parsed = JsonReader::parse(text);
  if (!parsed) return std::unexpected(std::move(parsed).error());
  JsonReader& body = *parsed;
  EmbeddingRequest request;
  request.model = body.text("model").value_or("");
  request.inputs = read_prompts(body, input);
  if (request.inputs.empty()) body.complain(input, "is missing or empty", "missing_required_parameter");
  if (request.inputs.size() > EmbeddingRequest::kMostInputs) {
    body.complain(input,
                  fmt::format("holds {} texts; {} are allowed", request.inputs.size(), EmbeddingRequest::kMostInputs));
  }
  for (const PromptInput& one : request.inputs) {
    if (std::visit([](const auto& of) { return of.empty(); }, one)) body.complain(input, "holds an empty text");
  }
  if (const auto pooling = body.text("pooling")) {
    if (const auto known = runtime::parse_pooling(*pooling)) {
      request.pooling = *known;
    } else {
      body.complain("pooling", fmt::format("must be mean, last or state, not \"{}\"", *pooling));
    }
  }
  request.dimensions = body.integer("dimensions", 1, std::numeric_limits<std::int32_t>::max());
  if (openai) {
    const std::string format = body.text("encoding_format").value_or("float");
    request.base64 = format == "base64";
    if (!request.base64 && format != "float") {
      body.complain("encoding_format", fmt::format("must be float or base64, not \"{}\"", format));
    }
    request.priority = static_cast<int>(body.integer("priority", -100, 100).value_or(0));
  }
  if (body.error()) return std::unexpected(*body.error());
  return request;
}

}  // namespace

ApiResult<EmbeddingRequest> parse_embedding_request(std::string_view body) { return parse(body, "input", true); }
ApiResult<EmbeddingRequest> parse_ollama_embed(std::string_view body) { return parse(body, "input", false); }
ApiResult<EmbeddingRequest> parse_ollama_embeddings(std::string_view body) { return parse(body, "prompt", false); }

std::string base64_of(std::span<const float> vector) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve(vector.size() * 16 / 3 + 4);
  std::uint32_t bits = 0;
  int count = 0;  // of bits
  for (const float value : vector) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    for (int byte = 0; byte < 4; ++byte) {
      bits = (bits << 8) | (word >> (8 * byte) & 0xff);
      for (count += 8; count >= 6; count -= 6) out += kDigits[bits >> (count - 6) & 63];
    }
  }
  if (count > 0) out += kDigits[bits << (6 - count) & 63];
  out.append((4 - out.size() % 4) % 4, '=');
  return out;
}

void normalise(std::span<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * static_cast<double>(value);
  if (squares == 0) return;
  const double length = std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(static_cast<double>(value) / length);
}

std::string embedding_body(const EmbeddingResult& result, bool base64) {
  Json data = Json::array();
  for (std::size_t i = 0; i < result.vectors.size(); ++i) {
    const std::vector<float>& vector = result.vectors[i];
    data.push_back(
        {{"object", "embedding"}, {"index", i}, {"embedding", base64 ? Json(base64_of(vector)) : Json(vector)}});
  }
  return dump({{"object", "list"},
               {"data", std::move(data)},
               {"model", result.model},
               {"usage", {{"prompt_tokens", result.prompt_tokens}, {"total_tokens", result.prompt_tokens}}}});
}

std::string ollama_embed_body(const EmbeddingResult& result) {
  return dump({{"model", result.model},
               {"embeddings", result.vectors},
               {"total_duration", static_cast<std::int64_t>(result.seconds * 1e9)},
               {"load_duration", 0},
               {"prompt_eval_count", result.prompt_tokens}});
}

std::string ollama_embeddings_body(const EmbeddingResult& result) {
  return dump({{"embedding", result.vectors.empty() ? Json::array() : Json(result.vectors.front())}});
}

}  // namespace krait::server
