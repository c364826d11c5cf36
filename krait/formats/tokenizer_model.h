// What turns one piece of text into ids: byte-pair encoding or unigram. Pieces come from the pre-tokenizer; a model
// knows nothing of whitespace, added tokens or normalisation.
#pragma once

#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"

namespace krait::formats {

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual std::string_view kind() const = 0;
  // Appends the ids of `piece`. Any bytes will do. May be called from several threads.
  virtual void encode(std::string_view piece, std::vector<TokenId>& ids) const = 0;
  // Whether no token holds `marker` after another character, so that text may be cut before a run of markers.
  virtual bool separable_at(std::string_view marker) const = 0;
};

// Whether `token` holds `marker` only at its front (any number of times).
inline bool marker_only_leads(std::string_view token, std::string_view marker) {
  while (token.starts_with(marker)) token.remove_prefix(marker.size());
  return token.find(marker) == std::string_view::npos;
}

}  // namespace krait::formats
