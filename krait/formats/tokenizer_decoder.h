// From tokens back to bytes: the decoder chain of tokenizer.json, worked out once for every token of the vocabulary.
// Not incremental UTF-8, which is TokenDecoder's part.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer_vocabulary.h"

namespace krait::formats {

struct DecoderStep {
  enum Kind {
    kByteLevel,     // spelled bytes to bytes
    kByteFallback,  // <0xXX> to that byte
    kReplace,       // `from` to `to`
    kStrip,         // up to `left` and `right` times `from` at the ends of the token
  } kind;
  std::string from;
  std::string to;
  std::size_t left = 0;
  std::size_t right = 0;
};

struct DecoderParts {
  std::vector<DecoderStep> steps;
  std::string start;      // dropped once from the front of a text: the space that the encoder put there
  std::string separator;  // before each token (files without a decoder join tokens with spaces)
};

// The bytes of one token within a text.
std::string decode_token(const DecoderParts& decoder, std::string_view token);

// The bytes of every token, in one block. Tokens in `literal` stand for themselves (added tokens).
class TokenBytes {
 public:
  TokenBytes() = default;
  TokenBytes(const Vocabulary& vocabulary, const DecoderParts& decoder, const std::vector<bool>& literal);
  std::string_view of(TokenId id) const;  // empty for ids outside the vocabulary

 private:
  std::string bytes_;
  std::vector<std::size_t> ends_;  // of token i; it begins at the end of token i - 1
};

}  // namespace krait::formats
