#include "krait/runtime/prompt.h"

#include <algorithm>

namespace krait::runtime {

using formats::TokenId;

std::optional<TokenId> start_token(const models::ModelInfo& model, const formats::Tokenizer& tokenizer,
                                   bool text_is_empty) {
  if (!text_is_empty && !tokenizer.adds_bos()) return std::nullopt;
  const auto start = tokenizer.bos() ? tokenizer.bos() : model.bos;
  return start ? start : tokenizer.eos();
}

std::vector<TokenId> encode_prompt(const models::ModelInfo& model, const formats::Tokenizer& tokenizer,
                                   std::string_view text, bool at_start) {
  std::vector<TokenId> ids = tokenizer.encode(text);
  if (at_start) {
    if (const auto start = start_token(model, tokenizer, ids.empty())) ids.insert(ids.begin(), *start);
  }
  return ids;
}

std::vector<TokenId> end_of_text_ids(const models::ModelInfo& model, const formats::Tokenizer* tokenizer) {
  std::vector<TokenId> ids = model.eos;
  const auto own = tokenizer != nullptr ? tokenizer->eos() : std::nullopt;
  if (own && std::ranges::find(ids, *own) == ids.end()) ids.push_back(*own);
  return ids;
}

std::int64_t drawable_vocabulary(const models::ModelInfo& model, const formats::Tokenizer* tokenizer) {
  return tokenizer != nullptr ? std::min(tokenizer->size(), model.vocabulary) : model.vocabulary;
}

}  // namespace krait::runtime
