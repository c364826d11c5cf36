// Regular expressions of a text's characters, as an expression of a Grammar: the common core of Python's and ECMA 262's
// notation. Only what a finite automaton decides is taken: no backreferences, no lookaround, no word boundaries.
//
//   .  [a-z] [^a-z]  \d \w \s \D \W \S  \n \r \t \f \v \0 \xHH \uHHHH \u{H…}  a|b  (a) (?:a) (?<name>a)
//   * + ? {m} {m,} {,n} {m,n}, also with a lazy `?` behind, which changes nothing where whole texts are matched
//   ^ and $ at the ends of the expression or of one of its outermost alternatives
//
// \d, \w and \s are ASCII; `.`, \S and [^\s] leave out what any dialect calls the end of a line, or white space.
#pragma once

#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/grammar.h"

namespace krait::formats {

inline constexpr std::size_t kMaximumRegexBytes = 16384;
inline constexpr std::int32_t kMaximumRegexRepetitions = 10000;

// kWhole: the whole text matches (vLLM's guided_regex). kSearch: a part of it does, unless ^ and $ say otherwise
// (JSON schema's "pattern").
enum class RegexMatch { kWhole, kSearch };

// kInvalidArgument for what is no regular expression, kUnsupported for what no automaton decides; both name the place.
Result<Grammar::Expression> add_regex(Grammar& grammar, std::string_view pattern, Spelling spelling, RegexMatch match);

// The texts that match as a whole.
Result<Grammar> grammar_of_regex(std::string_view pattern);

}  // namespace krait::formats
