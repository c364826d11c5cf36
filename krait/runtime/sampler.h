// Chooses the next token from logits. The steps, in this order:
//   the mask of a constraint, whose tokens alone share the probability; logit bias; repetition, presence and frequency
//   penalties; (temperature 0: the largest logit;) temperature; top-k; top-p; min-p; one draw.
// Everything after the logits runs in double on one thread, so a seed gives the same tokens on any machine that
// computes the same logits.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/random.h"
#include "krait/formats/tokenizer.h"

namespace krait::runtime {

using formats::TokenId;

struct SamplerOptions {
  float temperature = 0.8F;  // 0 is greedy
  std::int64_t top_k = 40;   // 0: off
  float top_p = 0.95F;       // 1: off
  float min_p = 0.0F;        // keep tokens at least this share of the most likely one; 0: off
  // Divides positive logits of tokens that occurred (prompt included), multiplies negative ones (Keskar et al. 2019).
  float repetition_penalty = 1.0F;
  float presence_penalty = 0.0F;   // subtracted once from generated tokens
  float frequency_penalty = 0.0F;  // subtracted for every time a token was generated
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::uint64_t seed = 0;
};

// Everything that decides the draws to come, in plain numbers.
struct SavedSampler {
  std::map<std::string, double> options;  // the members of SamplerOptions, and "logit_bias.ID"
  std::uint64_t seed = 0;
  std::uint64_t random = 0;          // the generator's state
  std::vector<std::int64_t> counts;  // three numbers a token: id, times in the prompt, times generated
};

class Sampler {
 public:
  // `vocabulary`: ids from there on are never chosen. The padding rows of an embedding have logits of untrained
  // weights. Throws UserError for options outside their range.
  Sampler(SamplerOptions options, std::int64_t vocabulary);

  // What goes on exactly as this one would.
  SavedSampler save() const;
  // kCorrupt for options or counts that no sampler of this vocabulary has.
  static Result<Sampler> restore(const SavedSampler& saved, std::int64_t vocabulary);

  // Tokens of a prompt, for the repetition penalty.
  void observe_prompt(std::span<const TokenId> tokens);
  // Chooses, and counts the choice.
  TokenId sample(std::span<const float> logits);
  // Chooses among the tokens whose bit is set (bit i % 64 of word i / 64; words that are missing are zero), whatever
  // the logits and the options say; throws UserError when there is none.
  TokenId sample(std::span<const float> logits, std::span<const std::uint64_t> mask);

  // How many of the likeliest tokens decide a draw, where that is less than all: greedy, and top-k without bias and
  // penalties. Then sample_of() chooses, from them alone, what sample() would from the row.
  static constexpr std::int64_t kMostLikeliest = 256;
  std::optional<std::int64_t> likeliest_needed() const;
  // ids and logits of the likeliest_needed() largest, the largest first, ties to the smaller id; NaN is minus infinity.
  TokenId sample_of(std::span<const TokenId> ids, std::span<const float> logits);

  const SamplerOptions& options() const { return options_; }

 private:
  bool counts_matter() const;  // whether any penalty is on
  void adjust(std::span<float> logits) const;
  TokenId choose(std::span<const float> logits);  // and count
  TokenId draw(std::span<const float> logits);
  // Of tokens in the order of their logits, the largest first. `others`: what all that are not among them weigh
  // together, where the first weighs 1.
  TokenId draw_of(std::span<const TokenId> ids, std::span<const float> logits, double others);
  // With the softmax in shares_, of which this token has the largest.
  TokenId draw_of_all(std::size_t likeliest);
  TokenId draw_of_nucleus(std::span<const float> logits, std::size_t likeliest);

  SamplerOptions options_;
  std::int64_t vocabulary_;
  Random random_;
  struct Counts {
    std::int64_t prompt = 0;
    std::int64_t generated = 0;
  };
  std::unordered_map<TokenId, Counts> counts_;
  std::vector<float> adjusted_;
  std::vector<TokenId> candidates_;
  std::vector<float> candidate_logits_;
  std::vector<double> weights_;
  std::vector<float> shares_;
};

}  // namespace krait::runtime
