#include "krait/kernels/sequence_attention.h"

#include "krait/core/check.h"
#include "krait/kernels/sequence_attention_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/sequence_attention.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/sequence_attention-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(attend_part);

// So many tasks for each sequence, where it is long enough.
constexpr std::int64_t kTasksPerSequence = 16;

SourceView view_of(const SequenceSource<float>& source, const AttentionSequences& sequences, const SequencePart& part) {
  SourceView view;
  view.source = &source;
  view.listed = !source.chosen.empty();
  if (view.listed) {
    for (const ChosenToken& one : source.chosen[part.index]) {
      if (one.first < part.first + part.rows && part.first < one.end) view.chosen.push_back(one);
    }
    view.tiles = kv_pages(static_cast<std::int64_t>(view.chosen.size()));
    return view;
  }
  if (!sequences.prefixes.empty()) view.prefix = sequences.prefixes[part.index];
  view.first_tile = view.in_view(part.first).from / kTileTokens;
  view.tiles = std::max<std::int64_t>(0, kv_pages(view.in_view(part.first + part.rows - 1).to) - view.first_tile);
  return view;
}

void check_rows(RowsIn rows, std::int64_t count, std::int64_t columns) {
  KRAIT_CHECK_EQ(rows.rows, count);
  KRAIT_CHECK_EQ(rows.columns, columns);
}

void check_chosen(const SequenceRows& sequence, const std::vector<ChosenToken>& chosen) {
  // Rows are compared as floats.
  KRAIT_CHECK(sequence.rows <= (std::int64_t{1} << 24), "a sequence of {} rows with chosen tokens", sequence.rows);
  for (const ChosenToken& one : chosen) {
    KRAIT_CHECK(one.token >= 0 && one.token < sequence.rows && one.first >= 0 && one.first <= one.end,
                "token {} for rows {} to {} of a sequence of {}", one.token, one.first, one.end, sequence.rows);
  }
}

}  // namespace

SequencePart part_of(std::span<const SequenceSource<float>> sources, const AttentionSequences& sequences,
                     std::size_t index, std::int64_t first, std::int64_t rows) {
  SequencePart part{sequences.sequences[index], index, first, rows, {}};
  for (const SequenceSource<float>& source : sources) part.views.push_back(view_of(source, sequences, part));
  return part;
}

std::vector<SequencePart> cut_sequences(std::span<const SequenceSource<float>> sources,
                                        const AttentionSequences& sequences, std::int64_t heads, std::int64_t block) {
  std::vector<SequencePart> parts;
  for (std::size_t index = 0; index < sequences.sequences.size(); ++index) {
    const SequenceRows& sequence = sequences.sequences[index];
    const std::int64_t blocks = (sequence.rows + block - 1) / block;
    const std::int64_t pieces =
        std::clamp<std::int64_t>(kTasksPerSequence / heads, 1, std::max<std::int64_t>(1, blocks));
    const std::int64_t rows = (blocks + pieces - 1) / pieces * block;
    for (std::int64_t first = 0; first < sequence.rows; first += rows) {
      parts.push_back(part_of(sources, sequences, index, first, std::min(rows, sequence.rows - first)));
    }
  }
  return parts;
}

void check_sequence_attention(const Attention& attention, std::span<const SequenceSource<float>> sources,
                              const AttentionSequences& sequences, std::int64_t rows) {
  const KvShape& kv = attention.kv;
  KRAIT_CHECK(kv.value_heads > 0 && kv.key_heads % kv.value_heads == 0 && attention.query_heads % kv.key_heads == 0,
              "{} query heads, {} of keys, {} of values", attention.query_heads, kv.key_heads, kv.value_heads);
  KRAIT_CHECK(!sources.empty(), "attention without a source");
  KRAIT_CHECK(sequences.prefixes.empty() || sequences.prefixes.size() == sequences.sequences.size(),
              "{} prefixes for {} sequences", sequences.prefixes.size(), sequences.sequences.size());
  for (const SequenceSource<float>& source : sources) {
    check_rows(source.q, rows, attention.query_heads * kv.key_width);
    check_rows(source.k, rows, kv.key_heads * kv.key_width);
    check_rows(source.v, rows, kv.value_heads * kv.value_width);
    KRAIT_CHECK(source.window >= 0 && source.delay >= 0, "a window of {} and a delay of {}", source.window,
                source.delay);
    KRAIT_CHECK(source.chosen.empty() || source.chosen.size() == sequences.sequences.size(),
                "{} lists of chosen tokens for {} sequences", source.chosen.size(), sequences.sequences.size());
    KRAIT_CHECK(source.delay == 0 || sequences.prefixes.empty(), "prefixes beside a delay of {}", source.delay);
  }
  for (std::size_t i = 0; i < sequences.sequences.size(); ++i) {
    const SequenceRows& sequence = sequences.sequences[i];
    KRAIT_CHECK(sequence.first_row >= 0 && sequence.rows >= 0 && sequence.first_row + sequence.rows <= rows,
                "rows {} + {} of {}", sequence.first_row, sequence.rows, rows);
    if (!sequences.prefixes.empty()) {
      KRAIT_CHECK(sequences.prefixes[i] >= 0 && sequences.prefixes[i] <= sequence.rows, "a prefix of {} in {} rows",
                  sequences.prefixes[i], sequence.rows);
    }
    for (const SequenceSource<float>& source : sources) {
      if (!source.chosen.empty()) check_chosen(sequence, source.chosen[i]);
    }
  }
}

void sequence_attention(ThreadPool& pool, const Attention& attention, std::span<const SequenceSource<float>> sources,
                        const AttentionSequences& sequences, RowsOut out, RowsOut lse) {
  check_sequence_attention(attention, sources, sequences, out.rows);
  KRAIT_CHECK_EQ(out.columns, attention.query_heads * attention.kv.value_width);
  if (!lse.empty()) check_rows(lse, out.rows, attention.query_heads);
  const std::int64_t heads = attention.kv.key_heads;
  const std::vector<SequencePart> parts = cut_sequences(sources, sequences, heads, queries_per_block(attention));
  const auto tasks = static_cast<std::int64_t>(parts.size()) * heads;
  pool.parallel_for(tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      // The last parts see most: they come first.
      const SequencePart& part = parts[static_cast<std::size_t>((tasks - 1 - i) / heads)];
      HWY_DYNAMIC_DISPATCH(attend_part)
      ({.attention = &attention, .part = &part, .key_head = i % heads, .out = out, .lse = lse});
    }
  });
}

}  // namespace krait::kernels
#endif
