// Writes a text under a grammar, whatever it is: it is refused, or every mask allows a token and every allowed token is
// taken.
#pragma once

#include <bit>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/runtime/constraint.h"

namespace krait::tests {

inline void walk_grammar(const formats::Grammar& grammar) {
  using namespace runtime;
  static const auto vocabulary = [] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    for (const char* more : {"{\"", "\":", "\"}", "\",\"", "]}", "\\u", "00", "\xC3\xA9", "\xA9\""})
      tokens.emplace_back(more);
    tokens.emplace_back();
    return std::make_shared<const ConstraintVocabulary>(std::move(tokens));
  }();
  const auto constraint = Constraint::compile(grammar, vocabulary, {static_cast<TokenId>(vocabulary->size() - 1)});
  if (!constraint) return;
  ConstraintMatcher matcher(*constraint);
  std::vector<std::uint64_t> mask((*constraint)->mask_words());
  Random random(1);
  for (int step = 0; step < 60 && !matcher.finished(); ++step) {
    matcher.allowed(mask);
    std::size_t at = random.next() % mask.size();
    for (std::size_t i = 0; i < mask.size() && mask[at] == 0; ++i) at = (at + 1) % mask.size();
    if (mask[at] == 0) std::abort();  // a dead end
    const auto id = static_cast<TokenId>(at * 64 + static_cast<std::size_t>(std::countr_zero(mask[at])));
    if (!matcher.accept(id)) std::abort();
  }
}

}  // namespace krait::tests
