// A tokenizer made of any bytes must encode, decode and stream without harm.
#pragma once

#include <cstdlib>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer.h"

namespace krait::tests {

inline void use_tokenizer(const formats::Tokenizer& tokenizer) {
  constexpr std::string_view kText =
      "The 12 na\u00EFve e\u0301 \u6F22\u5B57 \U0001F600   \n\tx+=1;\xFF\xE6\xBC <|end|>\u2581a";
  const auto ids = tokenizer.encode(kText);
  for (const formats::TokenId id : ids) {
    if (id < 0 || id >= tokenizer.size()) std::abort();
  }
  tokenizer.decode(ids, true);
  std::vector<formats::TokenId> streamed;
  const auto encoder = tokenizer.encoder();
  for (const char c : kText) encoder->feed(std::string_view(&c, 1), streamed);
  encoder->finish(streamed);
  if (streamed != ids) std::abort();
}

}  // namespace krait::tests
