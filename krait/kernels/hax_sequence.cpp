#include "krait/kernels/hax_sequence.h"

#include <limits>

#include "krait/core/check.h"
#include "krait/kernels/hax_sequence_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/hax_sequence.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/hax_sequence-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(hax_buckets);
HWY_EXPORT(hax_attend_run);

// The S rows of the highest scores so far, in their order; of equals the earlier one stands before.
class BestRows {
 public:
  BestRows(std::int64_t size, RowsIn scores) : size_(static_cast<std::size_t>(size)), scores_(scores) {}

  void add(std::int32_t row) {
    const float score = *scores_.row(row);
    if (rows_.size() == size_) {
      if (!(score > *scores_.row(rows_.back()))) return;
      rows_.pop_back();
    }
    std::size_t rank = rows_.size();
    while (rank > 0 && score > *scores_.row(rows_[rank - 1])) --rank;
    rows_.insert(rows_.begin() + static_cast<std::ptrdiff_t>(rank), row);
  }
  std::span<const std::int32_t> rows() const { return rows_; }

 private:
  std::size_t size_;
  RowsIn scores_;
  std::vector<std::int32_t> rows_;
};

// Buckets of the rows' keys and queries; empty where nothing is hashed.
struct Buckets {
  std::vector<std::int32_t> keys, queries;
};

void choose(const HaxAttention& hax, const Buckets& buckets, RowsIn scores, const SequenceRows& sequence,
            Rows<std::int32_t> tokens) {
  // The last row of each bucket, and for each row the one before it in its bucket.
  std::vector<std::int32_t> last(static_cast<std::size_t>(hax.buckets()), -1);
  std::vector<std::int32_t> before(hax.recent > 0 ? static_cast<std::size_t>(sequence.rows) : 0);
  BestRows best(hax.selected, scores);
  const std::int64_t first = sequence.first_row;
  for (std::int64_t row = first; row < first + sequence.rows; ++row) {
    std::int32_t* const list = tokens.row(row);
    std::int32_t count = 0, bucket = 0, oldest = 0;
    if (hax.recent > 0) {
      std::int32_t& same = last[static_cast<std::size_t>(buckets.keys[static_cast<std::size_t>(row)])];
      before[static_cast<std::size_t>(row - first)] = same;
      same = static_cast<std::int32_t>(row);
      bucket = buckets.queries[static_cast<std::size_t>(row)];
      for (std::int32_t at = last[static_cast<std::size_t>(bucket)]; at >= 0 && count < hax.recent;
           at = before[static_cast<std::size_t>(at - first)]) {
        list[++count] = oldest = at;
      }
    }
    if (hax.selected > 0) {
      best.add(static_cast<std::int32_t>(row));
      const std::int32_t recent = count;
      for (const std::int32_t at : best.rows()) {
        const bool read = recent > 0 && at >= oldest && buckets.keys[static_cast<std::size_t>(at)] == bucket;
        if (!read) list[++count] = at;
      }
    }
    list[0] = count;
  }
}

void check_sequences(std::span<const SequenceRows> sequences, std::int64_t rows) {
  for (const SequenceRows& sequence : sequences) {
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, rows);
  }
}

}  // namespace

void hax_choose_tokens(ThreadPool& pool, const HaxAttention& hax, RowsIn centred_q, RowsIn centred_k, RowsIn scores,
                       std::span<const SequenceRows> sequences, Rows<std::int32_t> tokens) {
  KRAIT_CHECK(hax.hashes >= 0 && hax.hashes <= HaxAttention::kMostHashes, "{} hashes", hax.hashes);
  KRAIT_CHECK(hax.recent >= 0 && hax.selected >= 0 && hax.recent + hax.selected <= HaxAttention::kMostKeys,
              "{} recent keys and {} selected ones", hax.recent, hax.selected);
  KRAIT_CHECK_EQ(tokens.columns, 1 + hax.recent + hax.selected);
  KRAIT_CHECK(tokens.rows <= std::numeric_limits<std::int32_t>::max(), "{} rows", tokens.rows);
  check_sequences(sequences, tokens.rows);
  Buckets buckets;
  if (hax.recent > 0) {
    for (const RowsIn& rows : {centred_q, centred_k}) {
      KRAIT_CHECK_EQ(rows.rows, tokens.rows);
      KRAIT_CHECK_EQ(rows.columns, hax.key_width);
    }
    buckets.keys.resize(static_cast<std::size_t>(tokens.rows));
    buckets.queries.resize(static_cast<std::size_t>(tokens.rows));
    const std::vector<HaxRun> runs = hax_runs(sequences);
    pool.parallel_for(static_cast<std::int64_t>(runs.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const HaxRun& run = runs[static_cast<std::size_t>(i)];
        HWY_DYNAMIC_DISPATCH(hax_buckets)(hax, centred_k, run, buckets.keys.data());
        HWY_DYNAMIC_DISPATCH(hax_buckets)(hax, centred_q, run, buckets.queries.data());
      }
    });
  }
  if (hax.selected > 0) {
    KRAIT_CHECK_EQ(scores.rows, tokens.rows);
    KRAIT_CHECK_EQ(scores.columns, 1);
  }
  pool.parallel_for(static_cast<std::int64_t>(sequences.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      choose(hax, buckets, scores, sequences[static_cast<std::size_t>(i)], tokens);
    }
  });
}

void check_hax_reads(const HaxReads<float>& in, std::span<const SequenceRows> sequences, std::int64_t rows) {
  KRAIT_CHECK(in.q.rows == rows && in.k.rows == rows && in.v.rows == rows && in.tokens.rows == rows,
              "rows {}, {}, {} and {} of {}", in.q.rows, in.k.rows, in.v.rows, in.tokens.rows, rows);
  KRAIT_CHECK_EQ(in.q.columns, in.k.columns);
  check_sequences(sequences, rows);
  for (const SequenceRows& sequence : sequences) {
    for (std::int64_t row = sequence.first_row; row < sequence.first_row + sequence.rows; ++row) {
      const std::int32_t* const list = in.tokens.row(row);
      KRAIT_CHECK(list[0] >= 0 && list[0] < in.tokens.columns, "{} tokens in a list of {}", list[0], in.tokens.columns);
      for (std::int32_t i = 1; i <= list[0]; ++i) {
        KRAIT_CHECK(list[i] >= sequence.first_row && list[i] < sequence.first_row + sequence.rows,
                    "row {} of a sequence of rows {} + {}", list[i], sequence.first_row, sequence.rows);
      }
    }
  }
}

void hax_sequence(ThreadPool& pool, const HaxReads<float>& in, std::span<const SequenceRows> sequences, RowsOut y) {
  check_hax_reads(in, sequences, y.rows);
  KRAIT_CHECK_EQ(y.columns, in.v.columns);
  const std::vector<HaxRun> runs = hax_runs(sequences);
  pool.parallel_for(static_cast<std::int64_t>(runs.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(hax_attend_run)(in, runs[static_cast<std::size_t>(i)], y);
    }
  });
}

}  // namespace krait::kernels
#endif
