#include "krait/runtime/divergence.h"

#include <algorithm>
#include <cmath>

#include "krait/core/error.h"
#include "krait/kernels/distribution.h"

namespace krait::runtime {
namespace {

double kl_nats(std::span<const float> p, std::span<const float> q) {
  const double p_log = kernels::log_sum_exp(p);
  const double q_log = kernels::log_sum_exp(q);
  double sum = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = double{p[i]} - p_log;
    sum += std::exp(log_p) * (log_p - (double{q[i]} - q_log));
  }
  return std::max(0.0, sum);  // below zero only by rounding
}

}  // namespace

Divergence::Divergence(Session& reference, Session& tested) : reference_(reference), tested_(tested) {
  const std::int64_t left = reference.engine().model().info().vocabulary;
  const std::int64_t right = tested.engine().model().info().vocabulary;
  if (left != right) {
    throw UserError(fmt::format("vocabularies of {} and {} tokens cannot be compared", left, right),
                    "give two versions of one model");
  }
}

void Divergence::feed(std::span<const TokenId> tokens) {
  const auto chunk = static_cast<std::size_t>(
      std::min(reference_.engine().logit_rows_at_once(), tested_.engine().logit_rows_at_once()));
  const auto vocabulary = static_cast<std::size_t>(tested_.engine().model().info().vocabulary);
  for (; !tokens.empty(); tokens = tokens.subspan(std::min(chunk, tokens.size()))) {
    const auto part = tokens.first(std::min(chunk, tokens.size()));
    rows_.resize(part.size() * vocabulary);
    reference_.feed_each(part, [&](std::int64_t index, std::span<const float> logits) {
      std::ranges::copy(logits, rows_.begin() + index * static_cast<std::ptrdiff_t>(vocabulary));
    });
    tested_.feed_each(part, [&](std::int64_t index, std::span<const float> logits) {
      const auto reference = std::span(rows_).subspan(static_cast<std::size_t>(index) * vocabulary, vocabulary);
      const double nats = kl_nats(reference, logits);
      nats_ += nats;
      largest_ = std::max(largest_, nats);
      same_ += kernels::argmax(reference) == kernels::argmax(logits) ? 1 : 0;
      ++tokens_;
    });
  }
}

}  // namespace krait::runtime
