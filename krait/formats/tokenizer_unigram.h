// Unigram segmentation (Kudo 2018): of all ways to cut a piece into tokens, the one whose scores (log probabilities)
// add up highest, found by Viterbi's recursion over byte positions.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "krait/formats/tokenizer_model.h"

namespace krait::formats {

struct UnigramParts {
  std::vector<std::pair<std::string, double>> tokens;  // the index is the id; an empty token is a hole
  std::optional<TokenId> unknown;
  bool byte_fallback = false;  // characters no token covers become <0xXX> tokens
};

std::unique_ptr<TokenModel> make_unigram_model(UnigramParts parts);

}  // namespace krait::formats
