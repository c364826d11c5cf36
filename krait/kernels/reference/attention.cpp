#include "krait/kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {

void attention(const Attention& attention, std::span<const AttentionSource> sources, std::int64_t position,
               Rows<double> out) {
  const std::int64_t key_width = attention.kv.key_width, value_width = attention.kv.value_width;
  for (std::int64_t row = 0; row < out.rows; ++row) {
    for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
      for (std::int64_t i = 0; i < attention.queries_per_key(); ++i) {
        const std::int64_t head = attention.query_head(key_head, i);
        std::vector<double> scores;
        std::vector<const float*> values;
        for (const AttentionSource& source : sources) {
          for (std::int64_t j = 0; j < source.k.rows; ++j) {
            if (!source.sees(position + row, j)) continue;
            double score = 0.0;
            for (std::int64_t c = 0; c < key_width; ++c) {
              score +=
                  double{source.q.row(row)[head * key_width + c]} * double{source.k.row(j)[key_head * key_width + c]};
            }
            scores.push_back(score * double{attention.scale});
            values.push_back(source.v.row(j) + key_head / attention.streams() * value_width);
          }
        }
        const double largest = *std::ranges::max_element(scores);
        double sum = 0.0;
        for (double& score : scores) sum += score = std::exp(score - largest);
        for (std::int64_t c = 0; c < value_width; ++c) {
          double value = 0.0;
          for (std::size_t j = 0; j < scores.size(); ++j) value += scores[j] / sum * double{values[j][c]};
          out.row(row)[head * value_width + c] = value;
        }
      }
    }
  }
}

void attention(const Attention& attention, RowsIn q, std::int64_t position, RowsIn k, RowsIn v, Rows<double> out) {
  const AttentionSource source = {.q = q, .k = k, .v = v, .sees = [&](std::int64_t token, std::int64_t j) {
                                    return j <= token && (attention.window == 0 || j > token - attention.window);
                                  }};
  reference::attention(attention, {&source, 1}, position, out);
}

}  // namespace krait::kernels::reference
