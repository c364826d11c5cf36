#include "krait/kernels/sequence_attention_backward.h"

#include "krait/core/aligned_buffer.h"
#include "krait/core/check.h"
#include "krait/kernels/sequence_attention_task.h"
#include "krait/kernels/simd/highway_config.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "krait/kernels/sequence_attention_backward.cpp"
#include "hwy/foreach_target.h"
//
#include "krait/kernels/simd/sequence_attention_backward-inl.h"

#if HWY_ONCE
namespace krait::kernels {
namespace {

HWY_EXPORT(attend_part_backward);

// A task copies its rows; it works on so many of them at a time, all its heads counted, so that the copies stay small.
constexpr std::int64_t kRowsAtOnce = 4096;

using Gradients = std::span<const SequenceAttentionGradients<float>>;

// Whether an earlier source names the same matrix.
bool named_before(Gradients gradients, std::size_t index, RowsOut SequenceAttentionGradients<float>::* member) {
  const float* const data = (gradients[index].*member).data;
  return std::any_of(gradients.begin(), gradients.begin() + static_cast<std::ptrdiff_t>(index),
                     [&](const auto& earlier) { return (earlier.*member).data == data; });
}

void check_gradient(RowsOut gradient, RowsIn of) {
  if (gradient.empty()) return;
  KRAIT_CHECK(gradient.rows == of.rows && gradient.columns == of.columns, "a gradient of {} x {} for {} x {}",
              gradient.rows, gradient.columns, of.rows, of.columns);
}

void clear(RowsOut rows, const SequenceRows& sequence, std::int64_t column, std::int64_t columns) {
  for (std::int64_t row = 0; row < sequence.rows; ++row) {
    std::fill_n(rows.row(sequence.first_row + row) + column, columns, 0.0F);
  }
}

// The part's own matrices of sums for each source and value head: the tokens that its rows see.
class PartSums {
 public:
  PartSums(const Attention& attention, std::span<const SequencePart> parts, Gradients gradients)
      : key_columns_(attention.streams() * attention.kv.key_width),
        columns_(key_columns_ + attention.kv.value_width),
        heads_(attention.kv.value_heads) {
    std::int64_t floats = 0;
    for (const SequencePart& part : parts) {
      for (std::size_t s = 0; s < part.views.size(); ++s) {
        offsets_.push_back(floats);
        if (!gradients[s].k.empty() || !gradients[s].v.empty()) floats += heads_ * tokens(part, s).count * columns_;
      }
    }
    buffer_ = AlignedBuffer(static_cast<std::size_t>(floats) * sizeof(float));
  }

  struct Tokens {
    std::int64_t first = 0, count = 0;
  };
  static Tokens tokens(const SequencePart& part, std::size_t s) {
    const SourceView& view = part.views[s];
    if (view.listed) return {0, view.tiles == 0 ? 0 : part.sequence.rows};
    const std::int64_t first = std::min(view.first_tile * kTileTokens, part.sequence.rows);
    return {first, std::min((view.first_tile + view.tiles) * kTileTokens, part.sequence.rows) - first};
  }
  KeyValueSums sums(const SequencePart& part, std::size_t part_index, std::size_t s, std::int64_t value_head) {
    const Tokens in_view = tokens(part, s);
    float* const at = buffer_.as<float>().data() + offsets_[part_index * part.views.size() + s] +
                      value_head * in_view.count * columns_;
    return {at, at + key_columns_, columns_, columns_, in_view.first};
  }

 private:
  std::int64_t key_columns_, columns_, heads_;
  std::vector<std::int64_t> offsets_;
  AlignedBuffer buffer_;
};

// gradient [its rows of the sequence, columns from `column` on] (+)= the parts' sums, one after the other.
void add_sums(RowsOut gradient, std::int64_t column, std::int64_t columns, const SequencePart& part,
              PartSums::Tokens tokens, const float* from, std::int64_t stride) {
  for (std::int64_t i = 0; i < tokens.count; ++i, from += stride) {
    float* const to = gradient.row(part.sequence.first_row + tokens.first + i) + column;
    for (std::int64_t c = 0; c < columns; ++c) to[c] += from[c];
  }
}

}  // namespace

void sequence_attention_backward(ThreadPool& pool, const Attention& attention,
                                 std::span<const SequenceSource<float>> sources, const AttentionSequences& sequences,
                                 RowsIn out, RowsIn lse, RowsIn out_gradient,
                                 std::span<const SequenceAttentionGradients<float>> gradients) {
  check_sequence_attention(attention, sources, sequences, out.rows);
  const KvShape& kv = attention.kv;
  KRAIT_CHECK_EQ(gradients.size(), sources.size());
  KRAIT_CHECK(out.columns == attention.query_heads * kv.value_width && out_gradient.columns == out.columns &&
                  out_gradient.rows == out.rows && lse.rows == out.rows && lse.columns == attention.query_heads,
              "outputs of {} x {}, their gradients {} x {}, logarithms {} x {}", out.rows, out.columns,
              out_gradient.rows, out_gradient.columns, lse.rows, lse.columns);
  for (std::size_t s = 0; s < sources.size(); ++s) {
    check_gradient(gradients[s].q, sources[s].q);
    check_gradient(gradients[s].k, sources[s].k);
    check_gradient(gradients[s].v, sources[s].v);
  }

  const std::int64_t heads = kv.value_heads, key_columns = attention.streams() * kv.key_width;
  const std::int64_t block = queries_per_block(attention);
  const std::int64_t blocks_at_once = kRowsAtOnce / (block * attention.queries_per_key() * attention.streams());
  const std::int64_t queries_at_once = std::max<std::int64_t>(1, blocks_at_once) * block;
  const std::vector<SequencePart> parts = cut_sequences(sources, sequences, heads, block);
  // Where every sequence is one part, its tasks add to the gradients themselves.
  bool whole = true;
  for (const SequencePart& part : parts) whole = whole && part.rows == part.sequence.rows;
  PartSums part_sums(attention, whole ? std::span<const SequencePart>() : parts, gradients);

  const auto clear_head = [&](const SequenceRows& sequence, std::int64_t head) {
    for (const SequenceAttentionGradients<float>& gradient : gradients) {
      if (!gradient.k.empty()) clear(gradient.k, sequence, head * key_columns, key_columns);
      if (!gradient.v.empty()) clear(gradient.v, sequence, head * kv.value_width, kv.value_width);
    }
  };
  const auto task_of = [&](std::size_t index, std::int64_t head) {
    const SequencePart& part = parts[index];
    SequenceBackwardTask task{.attention = &attention,
                              .part = &part,
                              .value_head = head,
                              .out = out,
                              .lse = lse,
                              .out_gradient = out_gradient,
                              .sums = {},
                              .q = {},
                              .adds_q = {}};
    for (std::size_t s = 0; s < gradients.size(); ++s) {
      const auto& [q, k, v] = gradients[s];
      KeyValueSums sums;
      if (whole) {
        const std::int64_t row = part.sequence.first_row;
        if (!k.empty()) sums.k = k.row(row) + head * key_columns;
        if (!v.empty()) sums.v = v.row(row) + head * kv.value_width;
        sums.k_stride = k.stride;
        sums.v_stride = v.stride;
      } else {
        sums = part_sums.sums(part, index, s, head);
        if (k.empty()) sums.k = nullptr;
        if (v.empty()) sums.v = nullptr;
      }
      task.sums.push_back(sums);
      task.q.push_back(q);
      task.adds_q.push_back(named_before(gradients, s, &SequenceAttentionGradients<float>::q));
    }
    return task;
  };
  const auto tasks = static_cast<std::int64_t>(parts.size()) * heads;
  pool.parallel_for(tasks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto index = static_cast<std::size_t>((tasks - 1 - i) / heads);
      const SequencePart& part = parts[index];
      if (whole) clear_head(part.sequence, i % heads);
      SequenceBackwardTask task = task_of(index, i % heads);
      for (std::int64_t first = part.first; first < part.first + part.rows; first += queries_at_once) {
        const std::int64_t rows = std::min(queries_at_once, part.first + part.rows - first);
        const SequencePart now = part_of(sources, sequences, part.index, first, rows);
        task.part = &now;
        HWY_DYNAMIC_DISPATCH(attend_part_backward)(task);
      }
    }
  });
  if (whole) return;
  const auto count = static_cast<std::int64_t>(sequences.sequences.size()) * heads;
  pool.parallel_for(count, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto sequence = static_cast<std::size_t>(i / heads);
      const std::int64_t head = i % heads;
      clear_head(sequences.sequences[sequence], head);
      for (std::size_t index = 0; index < parts.size(); ++index) {
        const SequencePart& part = parts[index];
        if (part.index != sequence) continue;
        for (std::size_t s = 0; s < gradients.size(); ++s) {
          const auto& [q, k, v] = gradients[s];
          const KeyValueSums from = part_sums.sums(part, index, s, head);
          const PartSums::Tokens tokens = PartSums::tokens(part, s);
          if (!k.empty()) add_sums(k, head * key_columns, key_columns, part, tokens, from.k, from.k_stride);
          if (!v.empty()) add_sums(v, head * kv.value_width, kv.value_width, part, tokens, from.v, from.v_stride);
        }
      }
    }
  });
}

}  // namespace krait::kernels
#endif
