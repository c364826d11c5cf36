// How far a model's predictions are from a reference model's on the same text: after every token, the Kullback-Leibler
// divergence KL(reference || tested) = sum_i p_i log(p_i / q_i), and whether both hold the same token likeliest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/runtime/session.h"

namespace krait::runtime {

class Divergence {
 public:
  // Both sessions are advanced; their models must have the same vocabulary (UserError otherwise).
  Divergence(Session& reference, Session& tested);

  void feed(std::span<const TokenId> tokens);

  std::int64_t tokens() const { return tokens_; }
  double mean_nats() const { return tokens_ == 0 ? 0.0 : nats_ / static_cast<double>(tokens_); }
  double largest_nats() const { return largest_; }
  double same_top_share() const {
    return tokens_ == 0 ? 1.0 : static_cast<double>(same_) / static_cast<double>(tokens_);
  }

 private:
  Session& reference_;
  Session& tested_;
  std::vector<float> rows_;  // the reference's logits of a chunk
  std::int64_t tokens_ = 0;
  std::int64_t same_ = 0;
  double nats_ = 0.0;
  double largest_ = 0.0;
};

}  // namespace krait::runtime
