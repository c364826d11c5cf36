#include "krait/kernels/reference/hax_sequence.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {
namespace {

// work(row, its tokens, their weights)
template <class Work>
void for_rows(const HaxReads<double>& in, std::span<const SequenceRows> sequences, Work&& work) {
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
      const std::int32_t* const list = in.tokens.row(row);
      const std::span<const std::int32_t> tokens(list + 1, static_cast<std::size_t>(list[0]));
      std::vector<double> weights;
      for (const std::int32_t j : tokens) {
        double product = 0.0;
        for (std::int64_t i = 0; i < in.q.columns; ++i) product += in.q.row(row)[i] * in.k.row(j)[i];
        weights.push_back(product);
      }
      if (!tokens.empty()) {
        const double largest = *std::ranges::max_element(weights);
        double sum = 0.0;
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (double& weight : weights) weight /= sum;
      }
      work(row, tokens, std::span<const double>(weights));
    }
  }
}

}  // namespace

void hax_sequence(const HaxReads<double>& in, std::span<const SequenceRows> sequences, Rows<double> y) {
  for_rows(in, sequences, [&](std::int64_t row, auto tokens, auto weights) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      for (std::int64_t e = 0; e < y.columns; ++e) {
        y.row(row)[e] += in.output_scale[e] * weights[i] * in.v.row(tokens[i])[e];
      }
    }
  });
}

void hax_sequence_backward(const HaxReads<double>& in, std::span<const SequenceRows> sequences,
                           Rows<const double> y_gradient, const HaxSequenceGradients<double>& gradients) {
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
      for (const Rows<double>& rows : {gradients.q, gradients.k, gradients.v}) {
        std::fill_n(rows.row(row), rows.columns, 0.0);
      }
    }
  }
  for_rows(in, sequences, [&](std::int64_t row, auto tokens, auto weights) {
    const double* const upstream = y_gradient.row(row);
    std::vector<double> products;  // what a weight's gradient is
    double mean = 0.0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const double* const v = in.v.row(tokens[i]);
      double product = 0.0;
      for (std::int64_t e = 0; e < in.v.columns; ++e) {
        product += upstream[e] * in.output_scale[e] * v[e];
        gradients.v.row(tokens[i])[e] += weights[i] * upstream[e] * in.output_scale[e];
        if (gradients.output_scale != nullptr) gradients.output_scale[e] += upstream[e] * weights[i] * v[e];
      }
      products.push_back(product);
      mean += weights[i] * product;
    }
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const double score = weights[i] * (products[i] - mean);
      for (std::int64_t c = 0; c < in.q.columns; ++c) {
        gradients.q.row(row)[c] += score * in.k.row(tokens[i])[c];
        gradients.k.row(tokens[i])[c] += score * in.q.row(row)[c];
      }
    }
  });
}

}  // namespace krait::kernels::reference
