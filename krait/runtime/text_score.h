// How well a model predicts a text: the negative log-likelihood of every token given all tokens before it, the
// state carried from the first to the last (no windows), in memory that does not grow with the text.
#pragma once

#include <cstdint>
#include <span>

#include "krait/runtime/session.h"

namespace krait::runtime {

class TextScore {
 public:
  // Scores what is fed to `session` from now on. The first token of a fresh session has nothing before it and is
  // not scored.
  explicit TextScore(Session& session) : session_(session) {}

  void feed(std::span<const TokenId> tokens);

  std::int64_t tokens() const { return tokens_; }
  std::int64_t scored() const { return scored_; }
  double negative_log_likelihood() const { return nats_; }  // in nats, summed

 private:
  void score(std::span<const float> logits, TokenId id);

  Session& session_;
  std::int64_t tokens_ = 0;
  std::int64_t scored_ = 0;
  double nats_ = 0;
};

}  // namespace krait::runtime
