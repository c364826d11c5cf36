#include "krait/kernels/reference/hax_attention.h"

#include <algorithm>
#include <cmath>

namespace krait::kernels::reference {
namespace {

double product(const float* left, const float* right, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += double{left[i]} * double{right[i]};
  return sum;
}

std::vector<bool> signs(const HaxAttention& hax, const float* centred) {
  std::vector<bool> bits;
  for (std::int64_t hash = 0; hash < hax.hashes; ++hash) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < hax.key_width; ++i) {
      sum += double{centred[i]} * double{hax.hash_projection[i * hax.hashes + hash]};
    }
    bits.push_back(sum > 0.0);
  }
  return bits;
}

}  // namespace

std::vector<std::int64_t> hax_tokens(const HaxAttention& hax, const HaxInputs& in, std::int64_t t) {
  std::vector<std::int64_t> tokens;
  if (hax.recent > 0) {
    const std::vector<bool> wanted = signs(hax, in.centred_q.row(t));
    for (std::int64_t j = t; j >= 0 && static_cast<std::int64_t>(tokens.size()) < hax.recent; --j) {
      if (signs(hax, in.centred_k.row(j)) == wanted) tokens.push_back(j);
    }
  }
  for (std::int64_t j = 0; hax.selected > 0 && j <= t; ++j) {
    std::int64_t before = 0;  // tokens that are preferred to j
    for (std::int64_t other = 0; other <= t; ++other) {
      const float score = *in.scores.row(j), rival = *in.scores.row(other);
      if (rival > score || (rival == score && other < j)) ++before;
    }
    if (before < hax.selected) tokens.push_back(j);
  }
  std::ranges::sort(tokens);
  const auto repeated = std::ranges::unique(tokens);
  tokens.erase(repeated.begin(), repeated.end());
  return tokens;
}

void hax_attention(const HaxAttention& hax, const HaxInputs& in, Rows<double> y) {
  for (std::int64_t t = 0; t < y.rows; ++t) {
    const std::vector<std::int64_t> tokens = hax_tokens(hax, in, t);
    if (tokens.empty()) continue;
    std::vector<double> weights;
    for (const std::int64_t j : tokens) weights.push_back(product(in.q.row(t), in.k.row(j), hax.key_width));
    const double largest = *std::ranges::max_element(weights);
    double sum = 0.0;
    for (double& weight : weights) sum += weight = std::exp(weight - largest);
    for (std::int64_t e = 0; e < hax.value_width; ++e) {
      double value = 0.0;
      for (std::size_t i = 0; i < tokens.size(); ++i) value += weights[i] / sum * double{in.v.row(tokens[i])[e]};
      y.row(t)[e] += double{hax.output_scale[e]} * value;
    }
  }
}

}  // namespace krait::kernels::reference
