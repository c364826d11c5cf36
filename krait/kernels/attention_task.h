// What one task of attention works on: rows of queries of one sequence that share a key head, and some of the pages.
// Internal to the kernel.
#pragma once

#include "krait/kernels/attention.h"

namespace krait::kernels {

// Rows of a task, queries times heads: they are multiplied with a page's keys together, so that its loads are shared.
inline constexpr std::int64_t kAttentionRows = 48;

struct AttentionTask {
  const Attention* attention = nullptr;
  const KvSequence* sequence = nullptr;
  RowsIn q;
  std::int64_t delay = 0;
  std::int64_t key_head = 0;
  std::int64_t first_query = 0, queries = 0;  // rows of the sequence
  std::int64_t first_page = 0, pages = 0;
  // [queries * r] rows (query by query) of sums of e^(score - maximum) v, then the maxima (in units of ln 2), then the
  // sums of the exponentials.
  float* partial = nullptr;

  std::int64_t value_head() const { return key_head / attention->streams(); }
  std::int64_t rows() const { return queries * attention->queries_per_key(); }
  std::int64_t partial_floats() const { return rows() * (attention->kv.padded_value_width() + 2); }
  float* maxima() const { return partial + rows() * attention->kv.padded_value_width(); }
  float* sums() const { return maxima() + rows(); }
};

// Tasks that go through their pages together, page by page: the same pages and queries of one sequence, each a key head
// of its own, one after the other. A page's keys of all heads stand side by side, as do its values, so that memory is
// read in long runs.
struct AttentionHeads {
  const AttentionTask* first = nullptr;
  std::int64_t stride = 1;  // from one head's task to the next one's
  std::int64_t count = 1;

  const AttentionTask& operator[](std::int64_t i) const { return first[i * stride]; }
};

}  // namespace krait::kernels
