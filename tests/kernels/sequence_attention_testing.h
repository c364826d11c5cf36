// What the tests of attention over whole sequences share: batches of sequences with several sources, the same in
// double, and how far rounding may go.
#pragma once

#include <algorithm>
#include <cmath>

#include "krait/kernels/reference/sequence_attention.h"
#include "tests/kernels/attention_testing.h"
#include "tests/kernels/derivative_testing.h"

namespace krait::tests {

using kernels::AttentionSequences;
using kernels::ChosenToken;
using kernels::Rows;
using kernels::SequenceAttentionGradients;
using kernels::SequenceRows;
using kernels::SequenceSource;

struct SourceShape {
  std::int64_t window = 0, delay = 0;
  bool listed = false;  // tokens drawn at random, each for two stretches of rows at most
};

// Sequences of these lengths with two rows between them that belong to none.
class SequenceCase {
 public:
  Attention attention;
  std::vector<SequenceRows> sequences;
  std::vector<std::int64_t> prefixes;
  std::int64_t rows = 0;
  struct Source {
    SourceShape shape;
    Matrix q, k, v;
    std::vector<std::vector<ChosenToken>> chosen;
  };
  std::vector<Source> sources;
  Matrix upstream;  // the gradient of the output

  SequenceCase(const Attention& a, std::span<const SourceShape> shapes, std::span<const std::int64_t> lengths,
               Random& random, bool with_prefixes = false)
      : attention(a) {
    for (const std::int64_t length : lengths) {
      sequences.push_back({.first_row = rows, .rows = length});
      if (with_prefixes) prefixes.push_back(static_cast<std::int64_t>(random.uniform() * double(length)));
      rows += length + 2;
    }
    for (const SourceShape& shape : shapes) {
      const auto matrix = [&](std::int64_t heads, std::int64_t width, std::int64_t gap) {
        Matrix result(rows, heads * width, gap, gap % 2);
        result.fill_normal(random);
        return result;
      };
      sources.push_back({shape,
                         matrix(a.query_heads, a.kv.key_width, 1),
                         matrix(a.kv.key_heads, a.kv.key_width, 2),
                         matrix(a.kv.value_heads, a.kv.value_width, 3),
                         {}});
      for (std::size_t i = 0; shape.listed && i < lengths.size(); ++i) {
        sources.back().chosen.push_back(draw_chosen(lengths[i], random));
      }
    }
    upstream = Matrix(rows, a.query_heads * a.kv.value_width, 5, 1);
    upstream.fill_normal(random);
  }

  AttentionSequences all() const { return {.sequences = sequences, .prefixes = prefixes}; }
  std::vector<SequenceSource<float>> views() const {
    std::vector<SequenceSource<float>> result;
    for (const Source& s : sources) {
      result.push_back({s.q.in(), s.k.in(), s.v.in(), s.shape.window, s.shape.delay, s.chosen});
    }
    return result;
  }

  bool sees(std::size_t source, std::size_t sequence, std::int64_t t, std::int64_t j) const {
    const auto& [window, delay, listed] = sources[source].shape;
    if (listed) return false;
    const std::int64_t prefix = prefixes.empty() ? 0 : prefixes[sequence];
    if (t < prefix && j < prefix) return true;
    return j <= t - delay && (window == 0 || j > t - delay - window);
  }

  // For each row and head what is in view: work(t's row, head, key head, pairs of source and row of the token).
  template <class Work>
  void for_queries(Work&& work) const {
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      for (std::int64_t t = 0; t < sequences[i].rows; ++t) {
        std::vector<std::pair<std::size_t, std::int64_t>> seen;
        for (std::size_t s = 0; s < sources.size(); ++s) {
          for (std::int64_t j = 0; j < sequences[i].rows; ++j) {
            if (sees(s, i, t, j)) seen.emplace_back(s, sequences[i].first_row + j);
          }
          for (std::size_t n = 0; sources[s].shape.listed && n < sources[s].chosen[i].size(); ++n) {
            const ChosenToken& one = sources[s].chosen[i][n];
            if (one.first <= t && t < one.end) seen.emplace_back(s, sequences[i].first_row + one.token);
          }
        }
        for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
          for (std::int64_t q = 0; q < attention.queries_per_key(); ++q) {
            work(sequences[i].first_row + t, attention.query_head(key_head, q), key_head, seen);
          }
        }
      }
    }
  }

 private:
  static std::vector<ChosenToken> draw_chosen(std::int64_t length, Random& random) {
    std::vector<ChosenToken> result;
    const auto draw = [&](std::int64_t low, std::int64_t high) {
      return low + static_cast<std::int64_t>(random.uniform() * double(high - low));
    };
    for (std::int64_t token = 0; token < length; ++token) {
      if (random.uniform() < 0.4) continue;
      const std::int64_t first = draw(0, length), end = draw(first, length + 5);
      result.push_back({token, first, end});
      if (random.uniform() < 0.3) result.push_back({token, end, draw(end, length + 6)});
    }
    return result;
  }
};

// The same in double.
struct DoubleSources {
  std::vector<Expected> q, k, v;
  std::vector<SequenceSource<double>> views;

  explicit DoubleSources(const SequenceCase& c) {
    for (const SequenceCase::Source& s : c.sources) {
      q.push_back(in_double(s.q));
      k.push_back(in_double(s.k));
      v.push_back(in_double(s.v));
    }
    for (std::size_t s = 0; s < c.sources.size(); ++s) {
      views.push_back({q[s].out(), k[s].out(), v[s].out(), c.sources[s].shape.window, c.sources[s].shape.delay,
                       c.sources[s].chosen});
    }
  }
};

// How far f32 may be off, for every element. u is a rounding, S a bound of scale sum |q||k| in the row, n the tokens in
// view. Scores are off by (Dk + 3) u S, weights of the forward pass as attention_error() says. lse is off by the error
// of the sum, 2 (Dk + 5) S + 16 + n roundings, and a few of its own size, at most S + log n; weights that are computed
// anew from it by a factor
//   e_p = u ((3 Dk + 19) S + n + 6 log n + 21)      (lse itself: the same)
// With mv = sum p |v| and A_j = |do| . (|v_j| + mv): D and do . v_j are off by (Dv + 2) roundings of their absolute
// sums and what out is off, so ds_j by p_j A_j e_s, e_s = e_p + (Dv + 4) u + error of out. Sums of m terms are off by
// m + 6 roundings of their absolute sums.
struct SequenceBounds {
  Expected out, lse;
  std::vector<Expected> q, k, v;

  explicit SequenceBounds(const SequenceCase& c)
      : out(c.rows, c.upstream.columns()), lse(c.rows, c.attention.query_heads) {
    const kernels::KvShape& kv = c.attention.kv;
    std::vector<Expected> k_terms, v_terms;
    for (const SequenceCase::Source& s : c.sources) {
      q.emplace_back(c.rows, s.q.columns());
      for (auto* keys : {&k, &k_terms}) keys->emplace_back(c.rows, s.k.columns());
      for (auto* values : {&v, &v_terms}) values->emplace_back(c.rows, s.v.columns());
    }
    // Twice: a sum's rounding is known when its terms are counted.
    std::vector<Expected> counts;
    for (const SequenceCase::Source& s : c.sources) counts.emplace_back(c.rows, s.k.columns() / kv.key_width);
    c.for_queries([&](std::int64_t, std::int64_t, std::int64_t key_head, const auto& seen) {
      for (const auto& [s, row] : seen) counts[s].out().row(row)[key_head] += 1.0;
    });
    c.for_queries([&](std::int64_t t, std::int64_t head, std::int64_t key_head, const auto& seen) {
      if (seen.empty()) return;
      const auto n = static_cast<double>(seen.size());
      const std::int64_t value_at = key_head / c.attention.streams() * kv.value_width;
      std::vector<double> weights;
      double largest = -INFINITY, sum = 0.0, size = 0.0;
      for (const auto& [s, row] : seen) {
        double score = 0.0, absolute = 0.0;
        for (std::int64_t i = 0; i < kv.key_width; ++i) {
          const double term = double{c.sources[s].q.at(t, head * kv.key_width + i)} *
                              double{c.sources[s].k.at(row, key_head * kv.key_width + i)} * c.attention.scale;
          score += term;
          absolute += std::fabs(term);
        }
        weights.push_back(score);
        largest = std::max(largest, score);
        size = std::max(size, absolute);
      }
      for (double& weight : weights) sum += weight = std::exp(weight - largest);
      for (double& weight : weights) weight /= sum;
      const double width = static_cast<double>(kv.key_width), value_width = static_cast<double>(kv.value_width);
      const double e_out = attention_error(c.attention, size, static_cast<std::int64_t>(seen.size()));
      const double e_p = 1.1 * kRounding * ((3.0 * width + 19.0) * size + n + 6.0 * std::log(n) + 21.0);
      const double e_s = e_p + (value_width + 4.0) * kRounding + e_out;
      lse.out().row(t)[head] = e_p;
      double mean_product = 0.0;
      for (std::int64_t i = 0; i < kv.value_width; ++i) {
        double mean = 0.0;
        for (std::size_t at = 0; at < seen.size(); ++at) {
          mean += weights[at] * std::fabs(double{c.sources[seen[at].first].v.at(seen[at].second, value_at + i)});
        }
        out.out().row(t)[head * kv.value_width + i] = e_out * mean;
        mean_product += mean * std::fabs(double{c.upstream.at(t, head * kv.value_width + i)});
      }
      for (std::size_t at = 0; at < seen.size(); ++at) {
        const auto [s, row] = seen[at];
        const SequenceCase::Source& source = c.sources[s];
        double a = mean_product;
        for (std::int64_t i = 0; i < kv.value_width; ++i) {
          const double upstream = std::fabs(double{c.upstream.at(t, head * kv.value_width + i)});
          a += upstream * std::fabs(double{source.v.at(row, value_at + i)});
          const double terms = counts[s].at(row, key_head) * static_cast<double>(c.attention.streams()) + 6.0;
          v[s].out().row(row)[value_at + i] += weights[at] * upstream * (e_p + terms * kRounding);
        }
        const double ds = std::fabs(double{c.attention.scale}) * weights[at] * a;
        for (std::int64_t i = 0; i < kv.key_width; ++i) {
          const std::int64_t q_at = head * kv.key_width + i, k_at = key_head * kv.key_width + i;
          q[s].out().row(t)[q_at] += ds * std::fabs(double{source.k.at(row, k_at)}) * (e_s + (n + 6.0) * kRounding);
          k[s].out().row(row)[k_at] +=
              ds * std::fabs(double{source.q.at(t, q_at)}) * (e_s + (counts[s].at(row, key_head) + 6.0) * kRounding);
        }
      }
    });
  }
};

}  // namespace krait::tests
