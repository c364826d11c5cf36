// A tokenizer put together from parts: added tokens, normaliser, pre-tokenizer, model, decoder. tokenizer.json and
// GGUF files are read into these parts; what a file says is settled before this is built.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_added_tokens.h"
#include "krait/formats/tokenizer_decoder.h"
#include "krait/formats/tokenizer_model.h"
#include "krait/formats/tokenizer_normalizer.h"
#include "krait/formats/tokenizer_pretokenizer.h"
#include "krait/formats/tokenizer_vocabulary.h"

namespace krait::formats {

// A space put before a text (or before each stretch between added tokens) that does not begin with one already.
struct TextPrefix {
  enum When { kNever, kFirst, kAlways } when = kNever;
  std::string prefix = " ";
  std::vector<std::string> unless;  // beginnings that need no prefix; empty: every text gets it
};

struct TokenizerParts {
  std::string kind;
  Vocabulary vocabulary;
  std::vector<AddedToken> added;
  NormalizerSteps normalizer;
  TextPrefix prefix;
  std::vector<std::unique_ptr<PreTokenizerStage>> stages;
  std::unique_ptr<TokenModel> model;
  bool spelled_bytes = false;  // the model works on the byte alphabet: a byte that is no UTF-8 reaches it spelled
  DecoderParts decoder;
  std::vector<TokenId> special;  // beyond the added tokens that are marked so
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  bool adds_bos = false;
};

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerParts parts);

// What the files beside a tokenizer say, put over what it says itself; each may be absent.
struct BoundaryTokens {
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::optional<bool> adds_bos;
};
std::unique_ptr<Tokenizer> with_boundary_tokens(std::unique_ptr<Tokenizer> tokenizer, const BoundaryTokens& tokens);

}  // namespace krait::formats
