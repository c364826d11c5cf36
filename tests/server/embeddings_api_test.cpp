#include "krait/server/embeddings_api.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace krait::server {
namespace {

using nlohmann::json;
using Ids = std::vector<formats::TokenId>;
using runtime::Pooling;

std::string complaint(const std::string& body) {
  const auto request = parse_embedding_request(body);
  return request ? "none" : request.error().param;
}

TEST(EmbeddingRequests, AllFormsOfInputAreRead) {
  const auto one = parse_embedding_request(R"({"model": "m", "input": "a text"})");
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(one->model, "m");
  EXPECT_EQ(one->inputs, (std::vector<PromptInput>{"a text"}));
  EXPECT_EQ(one->pooling, Pooling::mean);
  EXPECT_FALSE(one->base64);
  EXPECT_EQ(parse_embedding_request(R"({"input": ["a", "b"]})")->inputs, (std::vector<PromptInput>{"a", "b"}));
  EXPECT_EQ(parse_embedding_request(R"({"input": [1, 2]})")->inputs, (std::vector<PromptInput>{Ids{1, 2}}));
  EXPECT_EQ(parse_embedding_request(R"({"input": [[1], [2, 3]]})")->inputs,
            (std::vector<PromptInput>{Ids{1}, Ids{2, 3}}));
  const auto all = parse_embedding_request(
      R"({"input": "a", "encoding_format": "base64", "pooling": "last", "dimensions": 32, "user": "u"})");
  EXPECT_TRUE(all->base64);
  EXPECT_EQ(all->pooling, Pooling::last);
  EXPECT_EQ(all->dimensions, 32);
}

TEST(EmbeddingRequests, WhatIsWrongIsNamed) {
  EXPECT_EQ(complaint("{}"), "input");
  EXPECT_EQ(complaint(R"({"input": []})"), "input");
  EXPECT_EQ(complaint(R"({"input": ""})"), "input");
  EXPECT_EQ(complaint(R"({"input": ["a", ""]})"), "input");
  EXPECT_EQ(complaint(R"({"input": {}})"), "input");
  EXPECT_EQ(complaint(R"({"input": [-1]})"), "input");
  EXPECT_EQ(complaint(R"({"input": "a", "encoding_format": "int8"})"), "encoding_format");
  EXPECT_EQ(complaint(R"({"input": "a", "pooling": "max"})"), "pooling");
  EXPECT_EQ(complaint(R"({"input": "a", "dimensions": 0})"), "dimensions");
  json many = {{"input", std::vector<std::string>(EmbeddingRequest::kMostInputs + 1, "a")}};
  EXPECT_EQ(complaint(many.dump()), "input");
}

TEST(EmbeddingRequests, OllamasNewFormAndItsOldOne) {
  EXPECT_EQ(parse_ollama_embed(R"({"model": "m", "input": ["a", "b"], "truncate": true})")->inputs.size(), 2u);
  EXPECT_EQ(parse_ollama_embeddings(R"({"model": "m", "prompt": "a"})")->inputs, (std::vector<PromptInput>{"a"}));
  EXPECT_FALSE(parse_ollama_embeddings(R"({"model": "m", "input": "a"})"));
}

TEST(EmbeddingAnswers, HaveTheLengthOne) {
  std::vector<float> vector = {3, -4};
  normalise(vector);
  EXPECT_EQ(vector, (std::vector<float>{0.6F, -0.8F}));
  std::vector<float> zero = {0, 0};
  normalise(zero);
  EXPECT_EQ(zero, (std::vector<float>{0, 0}));
  std::vector<float> large = {1e30F, 1e30F};
  normalise(large);
  EXPECT_FLOAT_EQ(large[0], std::sqrt(0.5F));
}

TEST(EmbeddingAnswers, AreFloatsOrBase64) {
  const EmbeddingResult result{.vectors = {{1.0F, -2.5F}, {0.5F}}, .model = "m", .prompt_tokens = 7};
  const json floats = json::parse(embedding_body(result, false));
  EXPECT_EQ(floats["data"][0]["embedding"], json::array({1.0, -2.5}));
  EXPECT_EQ(floats["data"][1]["index"], 1);
  EXPECT_EQ(floats["usage"]["total_tokens"], 7);
  const json coded = json::parse(embedding_body(result, true));
  // 00 00 80 3f  00 00 20 c0, and 00 00 00 3f
  EXPECT_EQ(coded["data"][0]["embedding"], "AACAPwAAIMA=");
  EXPECT_EQ(coded["data"][1]["embedding"], "AAAAPw==");
  EXPECT_EQ(base64_of(std::vector<float>{1, 1, 1}), "AACAPwAAgD8AAIA/");
  EXPECT_EQ(json::parse(ollama_embed_body(result))["embeddings"], json::array({{1.0, -2.5}, {0.5}}));
  EXPECT_EQ(json::parse(ollama_embed_body(result))["prompt_eval_count"], 7);
  EXPECT_EQ(json::parse(ollama_embeddings_body(result))["embedding"], json::array({1.0, -2.5}));
}

}  // namespace
}  // namespace krait::server
