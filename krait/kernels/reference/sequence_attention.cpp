#include "krait/kernels/reference/sequence_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace krait::kernels::reference {
namespace {

using Sources = std::span<const SequenceSource<double>>;

// One row of one query head.
struct Query {
  const Attention& attention;
  Sources sources;
  std::int64_t first_row = 0;  // of the sequence
  std::int64_t row = 0;        // of the matrices
  std::int64_t head = 0, key_head = 0;

  const double* q(std::size_t s) const { return sources[s].q.row(row) + head * attention.kv.key_width; }
  const double* k(std::size_t s, std::int64_t token) const {
    return sources[s].k.row(first_row + token) + key_head * attention.kv.key_width;
  }
  std::int64_t value_column() const { return key_head / attention.streams() * attention.kv.value_width; }
  const double* v(std::size_t s, std::int64_t token) const {
    return sources[s].v.row(first_row + token) + value_column();
  }
};

// A token that the query sees, and its share of the softmax.
struct Seen {
  std::size_t source = 0;
  std::int64_t token = 0;
  double weight = 0.0;
};

bool sees(const SequenceSource<double>& source, std::int64_t prefix, std::int64_t t, std::int64_t j) {
  if (t < prefix && j < prefix) return true;
  const std::int64_t last = t - source.delay;
  return j <= last && (source.window == 0 || j > last - source.window);
}

std::vector<Seen> tokens_in_view(const AttentionSequences& sequences, std::size_t index, Sources sources,
                                 std::int64_t t) {
  const std::int64_t prefix = sequences.prefixes.empty() ? 0 : sequences.prefixes[index];
  std::vector<Seen> result;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    if (!sources[s].chosen.empty()) {
      for (const ChosenToken& chosen : sources[s].chosen[index]) {
        if (chosen.first <= t && t < chosen.end) result.push_back({s, chosen.token});
      }
      continue;
    }
    for (std::int64_t j = 0; j < sequences.sequences[index].rows; ++j) {
      if (sees(sources[s], prefix, t, j)) result.push_back({s, j});
    }
  }
  return result;
}

double product(const double* left, const double* right, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) sum += left[i] * right[i];
  return sum;
}

// Sets the weights; returns the logarithm of the sum.
double softmax(const Query& query, std::vector<Seen>& seen) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (Seen& one : seen) {
    one.weight = double{query.attention.scale} *
                 product(query.q(one.source), query.k(one.source, one.token), query.attention.kv.key_width);
    largest = std::max(largest, one.weight);
  }
  for (Seen& one : seen) sum += one.weight = std::exp(one.weight - largest);
  for (Seen& one : seen) one.weight /= sum;
  return largest + std::log(sum);
}

// work(query, index of the sequence, row within it)
template <class Work>
void for_queries(const Attention& attention, Sources sources, const AttentionSequences& sequences, Work&& work) {
  for (std::size_t index = 0; index < sequences.sequences.size(); ++index) {
    const SequenceRows& sequence = sequences.sequences[index];
    for (std::int64_t t = 0; t < sequence.rows; ++t) {
      std::vector<Seen> seen = tokens_in_view(sequences, index, sources, t);
      for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
        for (std::int64_t i = 0; i < attention.queries_per_key(); ++i) {
          work(Query{attention, sources, sequence.first_row, sequence.first_row + t, attention.query_head(key_head, i),
                     key_head},
               seen);
        }
      }
    }
  }
}

}  // namespace

void sequence_attention(const Attention& attention, Sources sources, const AttentionSequences& sequences,
                        Rows<double> out, Rows<double> lse) {
  const std::int64_t width = attention.kv.value_width;
  for_queries(attention, sources, sequences, [&](const Query& query, std::vector<Seen>& seen) {
    const double logarithm = softmax(query, seen);
    if (!lse.empty()) lse.row(query.row)[query.head] = logarithm;
    double* const to = out.row(query.row) + query.head * width;
    std::fill_n(to, width, 0.0);
    for (const Seen& one : seen) {
      for (std::int64_t c = 0; c < width; ++c) to[c] += one.weight * query.v(one.source, one.token)[c];
    }
  });
}

void sequence_attention_backward(const Attention& attention, Sources sources, const AttentionSequences& sequences,
                                 Rows<const double> out_gradient,
                                 std::span<const SequenceAttentionGradients<double>> gradients) {
  for (const SequenceAttentionGradients<double>& gradient : gradients) {
    for (const Rows<double>& rows : {gradient.q, gradient.k, gradient.v}) {
      for (const SequenceRows& sequence : sequences.sequences) {
        for (std::int64_t t = 0; !rows.empty() && t < sequence.rows; ++t) {
          std::fill_n(rows.row(sequence.first_row + t), rows.columns, 0.0);
        }
      }
    }
  }
  const std::int64_t key_width = attention.kv.key_width, value_width = attention.kv.value_width;
  for_queries(attention, sources, sequences, [&](const Query& query, std::vector<Seen>& seen) {
    softmax(query, seen);
    const double* const upstream = out_gradient.row(query.row) + query.head * value_width;
    double mean = 0.0;  // do . o
    for (const Seen& one : seen) mean += one.weight * product(upstream, query.v(one.source, one.token), value_width);
    for (const Seen& one : seen) {
      const SequenceAttentionGradients<double>& to = gradients[one.source];
      const std::int64_t row = query.first_row + one.token;
      const double* const v = query.v(one.source, one.token);
      const double score =
          one.weight * (product(upstream, v, value_width) - mean) * double{attention.scale};  // times its gradient
      const double *const q = query.q(one.source), *const k = query.k(one.source, one.token);
      for (std::int64_t c = 0; c < key_width; ++c) {
        if (!to.q.empty()) to.q.row(query.row)[query.head * key_width + c] += score * k[c];
        if (!to.k.empty()) to.k.row(row)[query.key_head * key_width + c] += score * q[c];
      }
      for (std::int64_t c = 0; !to.v.empty() && c < value_width; ++c) {
        to.v.row(row)[query.value_column() + c] += one.weight * upstream[c];
      }
    }
  });
}

}  // namespace krait::kernels::reference
