// What the tests of HAX share: inputs on which every decision is exact, and how far rounding may go.
#pragma once

#include <algorithm>

#include "krait/kernels/hax_attention.h"
#include "krait/kernels/reference/hax_attention.h"
#include "tests/kernels/kernel_testing.h"

namespace krait::tests {

using kernels::HaxAttention;
using kernels::HaxInputs;
using kernels::SequenceRows;

// What is hashed are small whole numbers and the hashes +1 and -1, scores are quarters: every comparison is exact, and
// both zero projections and equal scores happen.
struct HaxCase {
  Matrix q, k, centred_q, centred_k, scores, v, projection, scale;
  HaxAttention hax;

  HaxCase(std::int64_t rows, HaxAttention sizes, Random& random)
      : q(rows, sizes.key_width, 1, 1),
        k(rows, sizes.key_width, 3),
        centred_q(rows, sizes.key_width),
        centred_k(rows, sizes.key_width, 2, 1),
        scores(rows, 1, 1),
        v(rows, sizes.value_width, 5, 1),
        projection(sizes.key_width, sizes.hashes),
        scale(1, sizes.value_width),
        hax(sizes) {
    q.fill_normal(random);
    k.fill_normal(random);
    v.fill_normal(random);
    scale.fill_normal(random);
    for (Matrix* hashed : {&centred_q, &centred_k}) hashed->fill([&] { return std::round(2.0 * random.normal()); });
    scores.fill([&] { return std::round(4.0 * random.normal()) / 4.0; });
    projection.fill([&] { return random.uniform() < 0.5 ? -1.0 : 1.0; });
    hax.hash_projection = projection.data();
    hax.output_scale = scale.data();
  }
  HaxCase(const HaxCase&) = delete;

  HaxInputs inputs() const {
    return {.q = q.in(),
            .k = k.in(),
            .centred_q = centred_q.in(),
            .centred_k = centred_k.in(),
            .scores = scores.in(),
            .v = v.in()};
  }
  Matrix empty_state() const { return {1, hax.state_words()}; }
  void run(ThreadPool& pool, std::span<const SequenceRows> sequences, Matrix& y) const {
    hax_attention(pool, hax, inputs(), sequences, y.out());
  }
  // From an empty state, added to `y`.
  void run(ThreadPool& pool, Matrix& y) const {
    Matrix state = empty_state();
    const SequenceRows sequence{.first_row = 0, .rows = v.rows(), .state = state.bytes()};
    run(pool, {&sequence, 1}, y);
  }
};

// How far every element may be off, y before the call being `before`. Products of N terms are off by N roundings of
// their absolute sum, s at most. A weight then is off by a factor e^(2 s) for itself and the sum, by its exponential
// (the rounded difference of two products, and two roundings more), by the sum of so many weights and the quotient; the
// value by another sum of so many products; the last product and the sum with y are rounded once each.
inline Expected bound_of(const HaxCase& c, const Matrix& before) {
  Expected bound(before.rows(), before.columns());
  for (std::int64_t t = 0; t < before.rows(); ++t) {
    const std::vector<std::int64_t> tokens = kernels::reference::hax_tokens(c.hax, c.inputs(), t);
    std::vector<double> products;
    double size = 0.0, sum = 0.0;
    for (const std::int64_t j : tokens) {
      double product = 0.0, absolute = 0.0;
      for (std::int64_t i = 0; i < c.hax.key_width; ++i) {
        const double term = double{c.q.at(t, i)} * double{c.k.at(j, i)};
        product += term;
        absolute += std::fabs(term);
      }
      products.push_back(product);
      size = std::max(size, absolute);
      sum += std::exp(product);
    }
    const double product_error = kRounding * static_cast<double>(c.hax.key_width + 1) * size;
    const double relative =
        2.0 * product_error + kRounding * (2.0 * size + 2.0 * static_cast<double>(tokens.size()) + 8);
    for (std::int64_t e = 0; e < before.columns(); ++e) {
      double absolute = 0.0;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        absolute += std::exp(products[i]) / sum * std::fabs(double{c.v.at(tokens[i], e)});
      }
      absolute *= std::fabs(double{c.scale.at(0, e)});
      bound.out().row(t)[e] =
          1.01 * (relative * absolute + 2.0 * kRounding * (absolute + std::fabs(double{before.at(t, e)})));
    }
  }
  return bound;
}

}  // namespace krait::tests
