// What a language model is asked to do with a document: to go on, to restore, to copy, to fill in. A mixture of such
// objectives teaches a state-space model what a text's end alone does not: to use what it read long ago (Blouir et al.
// 2024, "Birdie").
//
// An objective turns the tokens of a document into an example of two parts: a prefix, which may be read in both
// directions, and what is to be written after it. Except for next_token and prefix_language_modeling, a separator ends
// the prefix, and an end token what is written:
//
//   ids     [ source tokens … | separator | t1 t2 … tn ]      prefix = source and separator
//   labels  [ none          … | t1        | t2 … tn end ]
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/random.h"
#include "krait/formats/tokenizer.h"
#include "krait/train/batch.h"

namespace krait::train {

// The tokens that objectives write between those of documents; special tokens of the tokenizer.
struct ObjectiveTokens {
  std::int32_t end = 0;
  std::int32_t separator = 1;
  std::int32_t mask = 2;            // for a span that was left out
  std::int32_t first_sentinel = 3;  // numbered names of spans, in order
  std::int64_t sentinels = 20;
};
// How they are spelled, for the training of a tokenizer: <|endoftext|>, <|separator|>, [[mask]], [[mask_0]], …
std::vector<std::string> objective_special_tokens(std::int64_t sentinels = 20);
// Their ids in a tokenizer; kNotFound names all that it lacks, and the command that makes a tokenizer with them.
Result<ObjectiveTokens> find_objective_tokens(const formats::Tokenizer& tokenizer);

struct ObjectiveExample {
  Example example;
  std::int64_t used = 0;  // tokens of the document, from its beginning
};

class Objective {
 public:
  virtual ~Objective() = default;
  // As much of the document as makes an example of at most `room` tokens. Nothing when document or room are too short
  // for the objective.
  virtual std::optional<ObjectiveExample> transform(std::span<const std::int32_t> document, std::int64_t room,
                                                    Random& random) const = 0;
};

struct ObjectiveParameter {
  std::string_view name;
  double value;  // unless it is given
  double low, high;
  bool whole;  // a whole number
  std::string_view meaning;
};
using ObjectiveValues = std::map<std::string, double, std::less<>>;

struct ObjectiveKind {
  std::string_view name;
  std::string_view meaning;
  std::vector<ObjectiveParameter> parameters;
  // `values` has every parameter, within its bounds.
  std::unique_ptr<Objective> (*make)(const ObjectiveValues& values, const ObjectiveTokens& tokens);
  bool writes_special_tokens = true;
};

std::span<const ObjectiveKind* const> objective_kinds();
// kInvalidArgument for an unknown name or parameter, or a value outside its bounds; each is named.
Result<std::unique_ptr<Objective>> make_objective(std::string_view name, const ObjectiveValues& values,
                                                  const ObjectiveTokens& tokens);

// Source, separator, target, as above.
Example example_of(std::span<const std::int32_t> source, std::span<const std::int32_t> target,
                   const ObjectiveTokens& tokens);

}  // namespace krait::train
