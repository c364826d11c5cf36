#include "krait/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/attention_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/attention.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/attention-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(attention_task);

// A single row's pages are cut into parts of so many: about a millisecond of reading, and few enough to put together.
constexpr std::int64_t kPagesPerPart = 16;
// Rows of a prefill go through all pages at once; partial sums of at most so many tasks stand in memory.
constexpr std::size_t kTasksAtOnce = 256;

// Tasks that work on the same rows, one part of the pages each.
struct Parts {
  std::size_t first_task = 0, tasks = 0;
};

// All that is in view of the rows' first and last queries.
void cut(const Attention& attention, const KvSequence& sequence, RowsIn q, std::vector<AttentionTask>& tasks,
         std::vector<Parts>& results) {
  const std::int64_t queries = std::max<std::int64_t>(1, kAttentionRows / attention.queries_per_key());
  for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
    for (std::int64_t query = 0; query < sequence.rows; query += queries) {
      const std::int64_t count = std::min(queries, sequence.rows - query);
      const std::int64_t first_token =
          attention.window > 0 ? std::max<std::int64_t>(0, sequence.position + query + 1 - attention.window) : 0;
      const std::int64_t first_page = first_token / kKvPageTokens;
      const std::int64_t end_page = kv_pages(sequence.position + query + count);
      const std::int64_t part = sequence.rows == 1 ? kPagesPerPart : end_page - first_page;
      Parts& result = results.emplace_back(Parts{tasks.size(), 0});
      // Parts begin at multiples of their length: the same pages are put together as the sequence grows.
      for (std::int64_t page = first_page; page < end_page;) {
        const std::int64_t end = sequence.rows == 1 ? std::min((page / part + 1) * part, end_page) : end_page;
        tasks.push_back({.attention = &attention,
                         .sequence = &sequence,
                         .q = q,
                         .key_head = key_head,
                         .first_query = query,
                         .queries = count,
                         .first_page = page,
                         .pages = end - page});
        ++result.tasks;
        page = end;
      }
    }
  }
}

// out = the parts' sums, brought to one maximum and divided by the sum of the exponentials.
void join(std::span<const AttentionTask> parts, RowsOut out) {
  const AttentionTask& first = parts.front();
  const Attention& attention = *first.attention;
  const std::int64_t group = attention.queries_per_key(), padded = attention.kv.padded_value_width();
  const std::int64_t width = attention.kv.value_width;
  for (std::int64_t row = 0; row < first.rows(); ++row) {
    float maximum = first.maxima()[row];
    for (const AttentionTask& part : parts.subspan(1)) maximum = std::max(maximum, part.maxima()[row]);
    float sum = 0.0F;
    for (const AttentionTask& part : parts) sum += std::exp2(part.maxima()[row] - maximum) * part.sums()[row];
    float* const to = out.row(first.sequence->first_row + first.first_query + row / group) +
                      attention.query_head(first.key_head, row % group) * width;
    std::fill_n(to, width, 0.0F);
    for (const AttentionTask& part : parts) {
      const float factor = std::exp2(part.maxima()[row] - maximum) / sum;
      const float* const from = part.partial + row * padded;
      for (std::int64_t i = 0; i < width; ++i) to[i] += factor * from[i];
    }
  }
}

void read_pages(ThreadPool& pool, const Attention& attention, RowsIn q, std::span<const KvSequence> sequences,
                RowsOut out) {
  std::vector<AttentionTask> tasks;
  std::vector<Parts> results;
  for (const KvSequence& sequence : sequences) cut(attention, sequence, q, tasks, results);
  thread_local AlignedBuffer partial;
  for (std::size_t first = 0; first < results.size();) {
    std::size_t end = first, count = 0;
    std::int64_t floats = 0;
    for (; end < results.size() && (end == first || count + results[end].tasks <= kTasksAtOnce); ++end) {
      count += results[end].tasks;
      for (std::size_t i = 0; i < results[end].tasks; ++i) {
        floats += (tasks[results[end].first_task + i].partial_floats() + 15) / 16 * 16;
      }
    }
    const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
    if (partial.size() < bytes) partial = AlignedBuffer(bytes);
    float* next = partial.as<float>().data();
    const std::span<AttentionTask> now(tasks.data() + results[first].first_task, count);
    for (AttentionTask& task : now) {
      task.partial = next;
      next += (task.partial_floats() + 15) / 16 * 16;
    }
    pool.parallel_for(static_cast<std::int64_t>(count), 1, [&](std::int64_t begin, std::int64_t last) {
      for (std::int64_t i = begin; i < last; ++i) {
        HWY_DYNAMIC_DISPATCH(attention_task)(now[static_cast<std::size_t>(i)]);
      }
    });
    pool.parallel_for(static_cast<std::int64_t>(end - first), 4, [&](std::int64_t begin, std::int64_t last) {
      for (std::int64_t i = begin; i < last; ++i) {
        const Parts& result = results[first + static_cast<std::size_t>(i)];
        join({tasks.data() + result.first_task, result.tasks}, out);
      }
    });
    first = end;
  }
}

void store_pages(ThreadPool& pool, const KvShape& shape, RowsIn k, RowsIn v, std::span<const KvSequence> sequences) {
  const std::int64_t pieces = shape.key_heads + shape.value_heads;
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()) * pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const KvSequence& sequence = sequences[static_cast<std::size_t>(i / pieces)];
      const std::int64_t head = i % pieces;
      if (head < shape.key_heads) {
        store_keys(shape, sequence, head, sequence.position, sequence.rows, sequence.first_row, k);
      } else {
        store_values(shape, sequence, head - shape.key_heads, sequence.position, sequence.rows, sequence.first_row, v);
      }
    }
  });
}

}  // namespace

void attention(ThreadPool& pool, const Attention& attention, RowsIn q, RowsIn k, RowsIn v,
               std::span<const KvSequence> sequences, RowsOut out) {
  const KvShape& kv = attention.kv;
  KRAIT_CHECK(kv.value_heads > 0 && kv.key_heads % kv.value_heads == 0 && attention.query_heads % kv.key_heads == 0,
              "{} query heads, {} of keys, {} of values", attention.query_heads, kv.key_heads, kv.value_heads);
  KRAIT_CHECK_EQ(q.columns, attention.query_heads * kv.key_width);
  KRAIT_CHECK_EQ(out.columns, attention.query_heads * kv.value_width);
  KRAIT_CHECK_EQ(out.rows, q.rows);
  const bool stores = !k.empty();
  if (stores) {
    KRAIT_CHECK_EQ(k.columns, kv.key_heads * kv.key_width);
    KRAIT_CHECK_EQ(v.columns, kv.value_heads * kv.value_width);
  }
  bool rings = false;
  for (const KvSequence& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= q.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, q.rows);
    if (sequence.ring == nullptr) continue;
    rings = true;
    KRAIT_CHECK(attention.window > 0 && sequence.ring_pages >= kv_ring_pages(attention.window),
                "a ring of {} pages for a window of {}", sequence.ring_pages, attention.window);
  }
  if (!rings) {
    if (stores) store_pages(pool, kv, k, v, sequences);
    read_pages(pool, attention, q, sequences, out);
    return;
  }
  // A page may be overwritten only when no row looks back to it any more.
  std::vector<KvSequence> left(sequences.begin(), sequences.end()), now;
  for (;;) {
    now.clear();
    for (KvSequence& sequence : left) {
      if (sequence.rows == 0) continue;
      KvSequence& part = now.emplace_back(sequence);
      part.rows = std::min(sequence.rows, kKvPageTokens - sequence.position % kKvPageTokens);
      sequence.first_row += part.rows;
      sequence.position += part.rows;
      sequence.rows -= part.rows;
    }
    if (now.empty()) return;
    if (stores) store_pages(pool, kv, k, v, now);
    read_pages(pool, attention, q, now, out);
  }
}

}  // namespace krait::kernels
#endif
