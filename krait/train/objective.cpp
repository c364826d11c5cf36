#include "krait/train/objective.h"

#include "krait/train/objective_list.h"
#include "krait/train/parameter_values.h"

namespace krait::train {
namespace {

constexpr const ObjectiveKind* kKinds[] = {
    &kNextToken, &kPrefixLanguageModeling,    &kAutoencoding, &kAutoencodingWithDeshuffling, &kCopying, &kDeshuffling,
    &kInfilling, &kSelectiveCopyingObjective,
};

constexpr std::string_view kEnd = "<|endoftext|>", kSeparator = "<|separator|>", kMask = "[[mask]]";

std::string sentinel(std::int64_t number) { return fmt::format("[[mask_{}]]", number); }

}  // namespace

std::vector<std::string> objective_special_tokens(std::int64_t sentinels) {
  std::vector<std::string> tokens = {std::string(kEnd), std::string(kSeparator), std::string(kMask)};
  for (std::int64_t i = 0; i < sentinels; ++i) tokens.push_back(sentinel(i));
  return tokens;
}

Result<ObjectiveTokens> find_objective_tokens(const formats::Tokenizer& tokenizer) {
  ObjectiveTokens tokens;
  std::vector<std::string> missing;
  const auto find = [&](const std::string& token, std::int32_t& id) {
    const auto found = tokenizer.token_to_id(token);
    if (!found) missing.push_back(token);
    id = found.value_or(0);
  };
  find(std::string(kEnd), tokens.end);
  find(std::string(kSeparator), tokens.separator);
  find(std::string(kMask), tokens.mask);
  find(sentinel(0), tokens.first_sentinel);
  if (!missing.empty()) {
    return fail(ErrorCode::kNotFound,
                "[objective] the tokenizer has no {}: objectives that ask for copies and gaps write special tokens. "
                "krait train-tokenizer TEXTS -o FOLDER --objectives makes a tokenizer with all of them, and krait "
                "prepare shards of it",
                fmt::join(missing, ", "));
  }
  tokens.sentinels = 1;
  while (tokenizer.token_to_id(sentinel(tokens.sentinels)) == tokens.first_sentinel + tokens.sentinels) {
    ++tokens.sentinels;
  }
  return tokens;
}

std::span<const ObjectiveKind* const> objective_kinds() { return kKinds; }

Result<std::unique_ptr<Objective>> make_objective(std::string_view name, const ObjectiveValues& values,
                                                  const ObjectiveTokens& tokens) {
  KRAIT_ASSIGN(const ObjectiveKind* kind, find_kind("objective", objective_kinds(), name));
  KRAIT_ASSIGN(const ObjectiveValues all, complete_values("objective", kind->name, kind->parameters, values));
  return kind->make(all, tokens);
}

Example example_of(std::span<const std::int32_t> source, std::span<const std::int32_t> target,
                   const ObjectiveTokens& tokens) {
  Example example;
  example.ids.assign(source.begin(), source.end());
  example.ids.push_back(tokens.separator);
  example.ids.insert(example.ids.end(), target.begin(), target.end());
  example.labels.assign(source.size(), kNoLabel);
  example.labels.insert(example.labels.end(), target.begin(), target.end());
  example.labels.push_back(tokens.end);
  example.prefix = static_cast<std::int64_t>(source.size()) + 1;
  return example;
}

}  // namespace krait::train
