#include "krait/kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {

void attention(const Attention& attention, RowsIn q, std::int64_t position, RowsIn k, RowsIn v, Rows<double> out) {
  const std::int64_t key_width = attention.kv.key_width, value_width = attention.kv.value_width;
  for (std::int64_t row = 0; row < q.rows; ++row) {
    const std::int64_t token = position + row;
    const std::int64_t first = attention.window > 0 ? std::max<std::int64_t>(0, token + 1 - attention.window) : 0;
    for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
      for (std::int64_t i = 0; i < attention.queries_per_key(); ++i) {
        const std::int64_t head = attention.query_head(key_head, i);
        std::vector<double> scores;
        for (std::int64_t j = first; j <= token; ++j) {
          double score = 0.0;
          for (std::int64_t c = 0; c < key_width; ++c) {
            score += double{q.row(row)[head * key_width + c]} * double{k.row(j)[key_head * key_width + c]};
          }
          scores.push_back(score * double{attention.scale});
        }
        const double largest = *std::ranges::max_element(scores);
        double sum = 0.0;
        for (double& score : scores) sum += score = std::exp(score - largest);
        for (std::int64_t c = 0; c < value_width; ++c) {
          double value = 0.0;
          for (std::int64_t j = first; j <= token; ++j) {
            const std::int64_t at = key_head / attention.streams() * value_width + c;
            value += scores[static_cast<std::size_t>(j - first)] / sum * double{v.row(j)[at]};
          }
          out.row(row)[head * value_width + c] = value;
        }
      }
    }
  }
}

}  // namespace krait::kernels::reference
