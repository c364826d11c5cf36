#include "krait/runtime/sampler.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "krait/core/check.h"
#include "krait/core/error.h"
#include "krait/kernels/distribution.h"

namespace krait::runtime {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

void require(bool condition, std::string_view what, double value, const char* hint) {
  if (!condition) throw UserError(fmt::format("{} {} is out of range", what, value), hint);
}

bool is_allowed(std::span<const std::uint64_t> mask, std::size_t id) {
  return id / 64 < mask.size() && ((mask[id / 64] >> (id % 64)) & 1) != 0;
}

void forbid_others(std::span<const std::uint64_t> mask, std::span<float> logits) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!is_allowed(mask, i) || std::isnan(logits[i])) logits[i] = kNever;
  }
}

}  // namespace

Sampler::Sampler(SamplerOptions options, std::int64_t vocabulary)
    : options_(std::move(options)), vocabulary_(vocabulary), random_(options_.seed) {
  const SamplerOptions& o = options_;
  require(o.temperature >= 0 && std::isfinite(o.temperature), "temperature", o.temperature, "0 is greedy, 0.8 usual");
  require(o.top_k >= 0, "top-k", static_cast<double>(o.top_k), "0 switches it off");
  require(o.top_p > 0 && o.top_p <= 1, "top-p", o.top_p, "it lies above 0; 1 switches it off");
  require(o.min_p >= 0 && o.min_p <= 1, "min-p", o.min_p, "it lies in 0 … 1; 0 switches it off");
  require(o.repetition_penalty > 0 && std::isfinite(o.repetition_penalty), "repetition penalty", o.repetition_penalty,
          "1 switches it off, 1.1 is usual");
  require(std::isfinite(o.presence_penalty), "presence penalty", o.presence_penalty, "0 switches it off");
  require(std::isfinite(o.frequency_penalty), "frequency penalty", o.frequency_penalty, "0 switches it off");
  for (const auto& [id, bias] : o.logit_bias) {
    require(id >= 0 && id < vocabulary, "logit bias for token", id, "the id is not in the vocabulary");
    require(!std::isnan(bias), "logit bias", bias, "give a number");
  }
}

namespace {

// The options that are numbers, by name: the one list that saving and restoring read.
template <class Options, class Visit>
void visit_numbers(Options& options, Visit&& visit) {
  visit("temperature", options.temperature);
  visit("top_k", options.top_k);
  visit("top_p", options.top_p);
  visit("min_p", options.min_p);
  visit("repetition_penalty", options.repetition_penalty);
  visit("presence_penalty", options.presence_penalty);
  visit("frequency_penalty", options.frequency_penalty);
}

constexpr std::string_view kBias = "logit_bias.";

}  // namespace

SavedSampler Sampler::save() const {
  SavedSampler saved;
  visit_numbers(options_, [&](const char* name, auto value) { saved.options[name] = static_cast<double>(value); });
  for (const auto& [id, bias] : options_.logit_bias) {
    // Biases of one token add up.
    saved.options[fmt::format("{}{}", kBias, id)] += static_cast<double>(bias);
  }
  saved.seed = options_.seed;
  saved.random = random_.state();
  if (counts_matter()) {
    std::map<TokenId, Counts> ordered(counts_.begin(), counts_.end());
    for (const auto& [id, counts] : ordered) {
      saved.counts.insert(saved.counts.end(), {id, counts.prompt, counts.generated});
    }
  }
  return saved;
}

Result<Sampler> Sampler::restore(const SavedSampler& saved, std::int64_t vocabulary) {
  SamplerOptions options;
  options.seed = saved.seed;
  std::map<std::string, double> left = saved.options;
  visit_numbers(options, [&](const char* name, auto& value) {
    const auto found = left.find(name);
    if (found == left.end()) return;
    value = static_cast<std::remove_reference_t<decltype(value)>>(std::clamp(found->second, -1e18, 1e18));
    left.erase(found);
  });
  for (const auto& [name, value] : left) {
    TokenId id = -1;
    if (name.starts_with(kBias)) std::from_chars(name.data() + kBias.size(), name.data() + name.size(), id);
    if (id < 0) return fail(ErrorCode::kCorrupt, "[sampler] there is no option \"{}\"", name);
    options.logit_bias.emplace_back(id, static_cast<float>(value));
  }
  try {
    Sampler sampler(std::move(options), vocabulary);
    sampler.random_ = Random(saved.random);
    if (saved.counts.size() % 3 != 0) {
      return fail(ErrorCode::kCorrupt, "[sampler] {} counts are no list of three each", saved.counts.size());
    }
    for (std::size_t i = 0; i < saved.counts.size(); i += 3) {
      const std::int64_t id = saved.counts[i];
      if (id < 0 || id >= vocabulary) {
        return fail(ErrorCode::kCorrupt, "[sampler] counts of token {}: ids are 0 … {}", id, vocabulary - 1);
      }
      sampler.counts_[static_cast<TokenId>(id)] = {saved.counts[i + 1], saved.counts[i + 2]};
    }
    return sampler;
  } catch (const UserError& wrong) {
    return fail(ErrorCode::kCorrupt, "[sampler] {}", wrong.what());
  }
}

void Sampler::observe_prompt(std::span<const TokenId> tokens) {
  for (const TokenId id : tokens) ++counts_[id].prompt;
}

TokenId Sampler::sample(std::span<const float> logits) {
  KRAIT_CHECK(!logits.empty(), "no logits to sample from");
  const auto usable = std::min(logits.size(), static_cast<std::size_t>(vocabulary_));
  adjusted_.assign(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(usable));
  adjust(adjusted_);
  return choose(adjusted_);
}

TokenId Sampler::sample(std::span<const float> logits, std::span<const std::uint64_t> mask) {
  KRAIT_CHECK(!logits.empty(), "no logits to sample from");
  const auto usable = std::min(logits.size(), static_cast<std::size_t>(vocabulary_));
  adjusted_.assign(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(usable));
  forbid_others(mask, adjusted_);
  adjust(adjusted_);
  // A bias of plus infinity makes minus infinity no number.
  forbid_others(mask, adjusted_);
  // Where bias or model forbid all that the mask allows, the mask prevails: the text must keep its form.
  if (std::ranges::all_of(adjusted_, [](float logit) { return !(logit > kNever); })) {
    for (std::size_t i = 0; i < usable; ++i) {
      if (is_allowed(mask, i)) adjusted_[i] = 0;
    }
    if (std::ranges::none_of(adjusted_, [](float logit) { return logit == 0; })) {
      throw UserError("the constraint allows no token", "it is finished, or of another vocabulary");
    }
  }
  return choose(adjusted_);
}

TokenId Sampler::choose(std::span<const float> logits) {
  const TokenId id = options_.temperature == 0 ? static_cast<TokenId>(kernels::argmax(logits)) : draw(logits);
  ++counts_[id].generated;
  return id;
}

void Sampler::adjust(std::span<float> logits) const {
  for (float& logit : logits) {
    if (std::isnan(logit)) logit = kNever;
  }
  for (const auto& [id, bias] : options_.logit_bias) {
    if (static_cast<std::size_t>(id) < logits.size()) logits[static_cast<std::size_t>(id)] += bias;
  }
  if (!counts_matter()) return;
  // Each token is treated by itself, so the order of the map does not matter.
  for (const auto& [id, counts] : counts_) {
    if (static_cast<std::size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    if (counts.generated == 0) continue;
    logit -= options_.presence_penalty + options_.frequency_penalty * static_cast<float>(counts.generated);
  }
}

bool Sampler::counts_matter() const {
  return options_.repetition_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
}

std::optional<std::int64_t> Sampler::likeliest_needed() const {
  if (counts_matter() || !options_.logit_bias.empty()) return std::nullopt;
  const std::int64_t count = options_.temperature == 0 ? 1 : options_.top_k;
  if (count == 0 || count > kMostLikeliest) return std::nullopt;
  return std::min(count, vocabulary_);
}

TokenId Sampler::sample_of(std::span<const TokenId> ids, std::span<const float> logits) {
  KRAIT_CHECK(std::ssize(ids) == likeliest_needed() && ids.size() == logits.size(), "{} likeliest tokens", ids.size());
  const TokenId id = options_.temperature == 0 ? ids.front() : draw_of(ids, logits, 0);
  ++counts_[id].generated;
  return id;
}

TokenId Sampler::draw(std::span<const float> logits) {
  if (options_.top_k == 0) {
    const auto likeliest = static_cast<std::size_t>(kernels::argmax(logits));
    if (!std::isfinite(logits[likeliest])) return static_cast<TokenId>(likeliest);  // as in draw_of
    shares_.resize(logits.size());
    kernels::softmax(logits, options_.temperature, shares_);
    return options_.top_p == 1 ? draw_of_all(likeliest) : draw_of_nucleus(logits, likeliest);
  }
  const bool cut = options_.top_k > 0 && options_.top_k < static_cast<std::int64_t>(logits.size());
  candidates_.resize(cut ? static_cast<std::size_t>(options_.top_k) : logits.size());
  kernels::top_k(logits, candidates_);  // most likely first
  candidate_logits_.resize(candidates_.size());
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    candidate_logits_[i] = logits[static_cast<std::size_t>(candidates_[i])];
  }
  return draw_of(candidates_, candidate_logits_, 0);
}

// Where no share of the likeliest is asked for, their order is not needed: the line of all shares stands in the order
// of the vocabulary.
TokenId Sampler::draw_of_all(std::size_t likeliest) {
  const float least = options_.min_p * shares_[likeliest];
  double total = 0;
  for (float& share : shares_) {
    if (share < least) share = 0;
    total += static_cast<double>(share);
  }
  double left = random_.uniform() * total;
  std::size_t last = likeliest;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    if (shares_[i] == 0) continue;
    left -= static_cast<double>(shares_[i]);
    last = i;
    if (left < 0) break;  // or rounding eats the last share
  }
  return static_cast<TokenId>(last);
}

// Tokens with less than (1 - top-p) / V each have less than 1 - top-p together, so those that reach top-p are among the
// others: few, most of the time, and only they are put in order.
TokenId Sampler::draw_of_nucleus(std::span<const float> logits, std::size_t likeliest) {
  constexpr float kRounding = 0.99F;  // of shares and of their sum: far more than there is
  const float least = kRounding * (1 - options_.top_p) / static_cast<float>(logits.size());
  candidates_.clear();
  double others = 0;
  for (std::size_t i = 0; i < shares_.size(); ++i) {
    if (shares_[i] >= least) {
      candidates_.push_back(static_cast<TokenId>(i));
    } else {
      others += static_cast<double>(shares_[i]);
    }
  }
  std::ranges::stable_sort(candidates_, std::ranges::greater(),
                           [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; });
  candidate_logits_.clear();
  for (const TokenId id : candidates_) candidate_logits_.push_back(logits[static_cast<std::size_t>(id)]);
  return draw_of(candidates_, candidate_logits_, others / static_cast<double>(shares_[likeliest]));
}

TokenId Sampler::draw_of(std::span<const TokenId> ids, std::span<const float> logits, double others) {
  const double largest = logits.front();
  if (!std::isfinite(largest)) return ids.front();  // nothing is allowed, or one token is certain
  weights_.resize(ids.size());
  double total = others;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    weights_[i] = std::exp((static_cast<double>(logits[i]) - largest) / options_.temperature);
    total += weights_[i];
  }

  std::size_t kept = ids.size();
  if (options_.top_p < 1) {
    // The shortest list of the most likely tokens that reaches the share.
    double sum = 0;
    std::size_t i = 0;
    while (i < kept && sum < options_.top_p * total) sum += weights_[i++];
    kept = std::max<std::size_t>(i, 1);
  }
  // weights_[0] is 1, the most likely token's share. Tokens without any share must not win by rounding.
  while (kept > 1 && (weights_[kept - 1] < options_.min_p || weights_[kept - 1] == 0)) --kept;

  total = std::accumulate(weights_.begin(), weights_.begin() + static_cast<std::ptrdiff_t>(kept), 0.0);
  double left = random_.uniform() * total;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weights_[i];
    if (left < 0) return ids[i];
  }
  return ids[kept - 1];  // rounding ate the last share
}

}  // namespace krait::runtime
