// Small vocabularies, and random texts written under a constraint's masks, for the tests of constraints.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/random.h"
#include "krait/runtime/constraint.h"

namespace krait::tests {

using runtime::Constraint;
using runtime::ConstraintMatcher;
using runtime::ConstraintVocabulary;
using runtime::TokenId;

// Every byte is a token of its own, then `more`, then the end.
inline std::shared_ptr<const ConstraintVocabulary> byte_vocabulary(const std::vector<std::string>& more = {}) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), more.begin(), more.end());
  tokens.emplace_back();
  return std::make_shared<const ConstraintVocabulary>(std::move(tokens));
}

inline TokenId last_token(const ConstraintVocabulary& vocabulary) {
  return static_cast<TokenId>(vocabulary.size() - 1);
}

// A constraint whose end is the last token, or the one given.
inline std::shared_ptr<const Constraint> compiled(const formats::Grammar& grammar,
                                                  std::shared_ptr<const ConstraintVocabulary> vocabulary,
                                                  std::optional<TokenId> end = std::nullopt) {
  const TokenId last = end.value_or(last_token(*vocabulary));
  auto constraint = Constraint::compile(grammar, std::move(vocabulary), {last});
  if (!constraint) throw std::runtime_error(constraint.error().message);
  return *constraint;
}

// Whether the text as a whole is one of the grammar's.
inline bool takes(const std::shared_ptr<const Constraint>& constraint, std::string_view text) {
  ConstraintMatcher matcher(constraint);
  return matcher.accept_bytes(text) && matcher.may_end();
}

inline std::vector<TokenId> allowed_tokens(ConstraintMatcher& matcher, const Constraint& constraint) {
  std::vector<std::uint64_t> mask(constraint.mask_words());
  matcher.allowed(mask);
  std::vector<TokenId> ids;
  for (std::size_t word = 0; word < mask.size(); ++word) {
    for (std::uint64_t bits = mask[word]; bits != 0; bits &= bits - 1) {
      ids.push_back(static_cast<TokenId>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
    }
  }
  return ids;
}

// Writes a text token by token, each drawn from what the mask allows; after `budget` tokens mostly those that close
// things. Nothing when no end comes in sight; a dead end, where no token is allowed, is a failure.
inline std::optional<std::string> random_text(const std::shared_ptr<const Constraint>& constraint, TokenId end,
                                              std::uint64_t seed, int budget) {
  constexpr int kPatience = 20'000;
  ConstraintMatcher matcher(constraint);
  Random random(seed);
  std::string text;
  for (int step = 0; !matcher.finished(); ++step) {
    const std::vector<TokenId> ids = allowed_tokens(matcher, *constraint);
    if (step > budget + kPatience) return std::nullopt;
    if (ids.empty()) {
      ADD_FAILURE() << "a dead end after " << text;
      return std::nullopt;
    }
    const auto is_allowed = [&](TokenId id) { return std::ranges::binary_search(ids, id); };
    const auto pick =
        [&](std::string_view bytes) -> std::optional<TokenId> {  // one of these bytes, the first ones first
      for (const char byte : bytes) {
        if (random.uniform() < 0.3) continue;
        for (const TokenId id : ids) {
          if (constraint->vocabulary().bytes(id) == std::string_view(&byte, 1)) return id;
        }
      }
      return std::nullopt;
    };
    std::optional<TokenId> id;
    if (step > budget) {
      if (is_allowed(end)) {
        id = end;
      } else {
        const std::string_view letters = "0123456789abcdefzAZ@.-:T";
        id = random.uniform() < 0.6 ? pick("}]\"") : pick(letters.substr(random.next() % letters.size()));
      }
    } else if (random.uniform() < 0.4) {
      // A walk at random alone would hardly ever leave a string.
      id = is_allowed(end) && random.uniform() < 0.5 ? end : pick("\",{[:\\u0e-}]");
    }
    if (!id) id = ids[random.next() % ids.size()];
    if (!matcher.accept(*id)) {
      ADD_FAILURE() << "an allowed token is not taken after " << text;
      return std::nullopt;
    }
    if (*id != end) text += constraint->vocabulary().bytes(*id);
  }
  return text;
}

}  // namespace krait::tests
