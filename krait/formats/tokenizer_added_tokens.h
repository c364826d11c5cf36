// Finds added tokens in a text: leftmost first, the longest of those that start there, with the flags of
// tokenizer.json (single_word, lstrip, rstrip). Not normalisation: whoever owns the text decides what is searched.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"
#include "krait/formats/tokenizer_trie.h"

namespace krait::formats {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool special = false;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // searched in the normalised text
};

class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(const std::vector<AddedToken>& tokens);

  bool empty() const { return flags_.empty(); }

  struct Scan {
    std::size_t plain_end;      // text[from:plain_end] holds no added token, whatever follows
    std::optional<TokenId> id;  // the token that follows it …
    std::size_t resume;         // … and where to go on after it
  };
  // `before` is the character that precedes text[from] (0 for none). Without `closes` more text may follow, and the
  // scan stops before the first place where it could matter.
  Scan scan(std::string_view text, std::size_t from, bool closes, char32_t before) const;

 private:
  struct Flags {
    TokenId id;
    bool single_word, lstrip, rstrip;
  };

  ByteTrie trie_;  // values index flags_
  std::vector<Flags> flags_;
  std::array<bool, 256> starts_{};
  bool any_lstrip_ = false;
};

}  // namespace krait::formats
