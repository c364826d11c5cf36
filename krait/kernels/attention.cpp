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

HWY_EXPORT(attention_heads);

// A single row's pages are cut into parts of so many: about a millisecond of reading, and few enough to put together.
constexpr std::int64_t kPagesPerPart = 16;
// Of all tasks' partial sums so many floats stand in memory at once (or one result's).
constexpr std::int64_t kFloatsAtOnce = std::int64_t{1} << 20;
// Loops are cut into so many pieces a thread at least, where there are as many tasks.
constexpr std::int64_t kPiecesPerThread = 4;

// Tasks that work on the same rows, one part of the pages each.
struct Parts {
  std::size_t first_task = 0, tasks = 0;
};

// Pages [first, end) of a source that rows [query, query + count) of a sequence see.
struct PageRange {
  std::int64_t first = 0, end = 0;
};

PageRange pages_in_view(const Attention& attention, const AttentionSource& source, const KvSequence& sequence,
                        std::int64_t query, std::int64_t count) {
  if (sequence.lifetimes != nullptr) return {0, sequence.chosen_pages};
  const std::int64_t first = sequence.position + query - source.delay;  // the youngest token that the first row sees
  const std::int64_t oldest = attention.window > 0 ? std::max<std::int64_t>(0, first + 1 - attention.window) : 0;
  return {oldest / kKvPageTokens, kv_pages(std::max<std::int64_t>(0, first + count))};
}

// All that is in view of the rows' first and last queries, in all sources.
void cut(const Attention& attention, std::span<const AttentionSource> sources, std::size_t index,
         std::vector<AttentionTask>& tasks, std::vector<Parts>& results) {
  const std::int64_t queries = std::max<std::int64_t>(1, kAttentionRows / attention.queries_per_key());
  const std::int64_t rows = sources.front().sequences[index].rows;
  for (std::int64_t key_head = 0; key_head < attention.kv.key_heads; ++key_head) {
    for (std::int64_t query = 0; query < rows; query += queries) {
      const std::int64_t count = std::min(queries, rows - query);
      Parts& result = results.emplace_back(Parts{tasks.size(), 0});
      for (const AttentionSource& source : sources) {
        const KvSequence& sequence = source.sequences[index];
        const PageRange range = pages_in_view(attention, source, sequence, query, count);
        // Parts begin at multiples of their length: the same pages are put together as the sequence grows.
        for (std::int64_t page = range.first; page < range.end;) {
          const std::int64_t end =
              rows == 1 ? std::min((page / kPagesPerPart + 1) * kPagesPerPart, range.end) : range.end;
          tasks.push_back({.attention = &attention,
                           .sequence = &sequence,
                           .q = source.q,
                           .delay = source.delay,
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

// Puts tasks of single rows (those of `results`, which stand one after the other in `tasks`) together: as many key
// heads of a part as leave enough pieces for the threads. No sum depends on it.
std::vector<AttentionHeads> heads_together(std::span<const Parts> results, std::span<const AttentionTask> tasks,
                                           int threads) {
  const std::int64_t most =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(tasks.size()) / (kPiecesPerThread * threads));
  std::vector<AttentionHeads> pieces;
  const AttentionTask* first = tasks.data();
  for (std::size_t i = 0; i < results.size();) {
    const auto parts = static_cast<std::int64_t>(results[i].tasks);
    std::int64_t count = 1;
    const auto joins = [&](const AttentionTask& next) {
      return next.sequence == first->sequence && next.sequence->rows == 1;
    };
    while (count < most && i + static_cast<std::size_t>(count) < results.size() && joins(first[count * parts])) ++count;
    for (std::int64_t part = 0; part < parts; ++part) pieces.push_back({first + part, parts, count});
    first += count * parts;
    i += static_cast<std::size_t>(count);
  }
  return pieces;
}

void read_pages(ThreadPool& pool, const Attention& attention, std::span<const AttentionSource> sources, RowsOut out) {
  std::vector<AttentionTask> tasks;
  std::vector<Parts> results;
  for (std::size_t i = 0; i < sources.front().sequences.size(); ++i) cut(attention, sources, i, tasks, results);
  thread_local AlignedBuffer partial;
  for (std::size_t first = 0; first < results.size();) {
    std::size_t end = first, count = 0;
    std::int64_t floats = 0;
    for (; end < results.size() && floats < kFloatsAtOnce; ++end) {
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
    const std::span<const Parts> joined(results.data() + first, end - first);
    const std::vector<AttentionHeads> pieces = heads_together(joined, now, pool.size());
    pool.parallel_for(static_cast<std::int64_t>(pieces.size()), 1, [&](std::int64_t begin, std::int64_t last) {
      for (std::int64_t i = begin; i < last; ++i) {
        HWY_DYNAMIC_DISPATCH(attention_heads)(pieces[static_cast<std::size_t>(i)]);
      }
    });
    pool.parallel_for(static_cast<std::int64_t>(joined.size()), 4, [&](std::int64_t begin, std::int64_t last) {
      for (std::int64_t i = begin; i < last; ++i) {
        const Parts& result = joined[static_cast<std::size_t>(i)];
        join({tasks.data() + result.first_task, result.tasks}, out);
      }
    });
    first = end;
  }
}

void store_pages(ThreadPool& pool, const KvShape& shape, const AttentionSource& source) {
  if (source.k.empty()) return;
  const std::int64_t pieces = shape.key_heads + shape.value_heads;
  const auto count = static_cast<std::int64_t>(source.sequences.size()) * pieces;
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const KvSequence& sequence = source.sequences[static_cast<std::size_t>(i / pieces)];
      const std::int64_t head = i % pieces;
      if (head < shape.key_heads) {
        store_keys(shape, sequence, head, sequence.position, sequence.rows, sequence.first_row, source.k);
      } else {
        store_values(shape, sequence, head - shape.key_heads, sequence.position, sequence.rows, sequence.first_row,
                     source.v);
      }
    }
  });
}

void check_source(const Attention& attention, const AttentionSource& source, const AttentionSource& first,
                  RowsOut out) {
  const KvShape& kv = attention.kv;
  KRAIT_CHECK_EQ(source.q.columns, attention.query_heads * kv.key_width);
  KRAIT_CHECK_EQ(source.q.rows, out.rows);
  KRAIT_CHECK_EQ(source.sequences.size(), first.sequences.size());
  KRAIT_CHECK(source.delay >= 0 && (source.delay == 0 || attention.window > 0), "a delay of {} with a window of {}",
              source.delay, attention.window);
  if (!source.k.empty()) {
    KRAIT_CHECK_EQ(source.k.columns, kv.key_heads * kv.key_width);
    KRAIT_CHECK_EQ(source.v.columns, kv.value_heads * kv.value_width);
  }
  for (std::size_t i = 0; i < source.sequences.size(); ++i) {
    const KvSequence& sequence = source.sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= source.q.rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, source.q.rows);
    KRAIT_CHECK(sequence.first_row == first.sequences[i].first_row && sequence.rows == first.sequences[i].rows &&
                    sequence.position == first.sequences[i].position,
                "sources whose sequence {} has other rows", i);
    if (sequence.ring == nullptr) continue;
    KRAIT_CHECK(attention.window > 0 && sequence.ring_pages >= kv_ring_pages(attention.window + source.delay),
                "a ring of {} pages for a window of {} and a delay of {}", sequence.ring_pages, attention.window,
                source.delay);
  }
}

// Cuts the rows so that none of a sequence's shares crosses a page, and hands each cut of all sources to
// `work(sources)`: a page of a ring may be overwritten only when no row looks back to it any more.
template <class Work>
void for_cuts_at_pages(std::span<const AttentionSource> sources, Work&& work) {
  std::vector<AttentionSource> now(sources.begin(), sources.end());
  std::vector<std::vector<KvSequence>> left, parts(sources.size());
  for (const AttentionSource& source : sources) left.emplace_back(source.sequences.begin(), source.sequences.end());
  for (;;) {
    bool any = false;
    for (std::size_t s = 0; s < sources.size(); ++s) {
      parts[s] = left[s];
      for (std::size_t i = 0; i < left[s].size(); ++i) {
        KvSequence& sequence = left[s][i];
        const std::int64_t rows = std::min(sequence.rows, kKvPageTokens - sequence.position % kKvPageTokens);
        parts[s][i].rows = rows;
        sequence.first_row += rows;
        sequence.position += rows;
        sequence.rows -= rows;
        any = any || rows > 0;
      }
      now[s].sequences = parts[s];
    }
    if (!any) return;
    work(std::span<const AttentionSource>(now), parts);
  }
}

}  // namespace

void attention(ThreadPool& pool, const Attention& attention, std::span<const AttentionSource> sources, RowsOut out) {
  const KvShape& kv = attention.kv;
  KRAIT_CHECK(kv.value_heads > 0 && kv.key_heads % kv.value_heads == 0 && attention.query_heads % kv.key_heads == 0,
              "{} query heads, {} of keys, {} of values", attention.query_heads, kv.key_heads, kv.value_heads);
  KRAIT_CHECK(!sources.empty(), "attention without a source");
  KRAIT_CHECK_EQ(out.columns, attention.query_heads * kv.value_width);
  bool whole = true;
  for (const AttentionSource& source : sources) {
    check_source(attention, source, sources.front(), out);
    const bool rings = std::ranges::any_of(source.sequences, [](const KvSequence& s) { return s.ring != nullptr; });
    whole = whole && !rings && source.choose == nullptr;
  }
  if (whole) {
    for (const AttentionSource& source : sources) store_pages(pool, kv, source);
    read_pages(pool, attention, sources, out);
    return;
  }
  for_cuts_at_pages(sources, [&](std::span<const AttentionSource> now, std::vector<std::vector<KvSequence>>& parts) {
    for (const AttentionSource& source : now) store_pages(pool, kv, source);
    for (std::size_t s = 0; s < now.size(); ++s) {
      if (now[s].choose) now[s].choose(parts[s]);
    }
    read_pages(pool, attention, now, out);
  });
}

void attention(ThreadPool& pool, const Attention& attention, RowsIn q, RowsIn k, RowsIn v,
               std::span<const KvSequence> sequences, RowsOut out) {
  const AttentionSource source = {.q = q, .k = k, .v = v, .sequences = sequences};
  kernels::attention(pool, attention, {&source, 1}, out);
}

}  // namespace krait::kernels
#endif
