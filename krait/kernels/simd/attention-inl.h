// Tasks of attention: for every page and head, scores S = Q K of all rows at once, their softmax brought up to date,
// and O += P V. Both are small products with a page's rows of whole vectors as the right-hand side (gemm-inl.h). Scores
// are in units of ln 2, the factor being part of Q.
#if defined(KRAIT_KERNELS_SIMD_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KRAIT_KERNELS_SIMD_ATTENTION_INL_H_
#undef KRAIT_KERNELS_SIMD_ATTENTION_INL_H_
#else
#define KRAIT_KERNELS_SIMD_ATTENTION_INL_H_
#endif

#include <algorithm>

#include "krait/kernels/attention_task.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/simd/attention_rows-inl.h"
#include "krait/kernels/simd/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace krait::kernels::HWY_NAMESPACE {

// Whole numbers of int8 pages; their scales stand on the other operand.
struct KvI8 {
  static constexpr std::size_t kBytes = 1;
  static HWY_INLINE VecF32 load(const std::byte* from) {
    const hn::Rebind<std::int8_t, F32> d8;
    const hn::RebindToSigned<F32> d32;
    return hn::ConvertTo(F32(), hn::PromoteTo(d32, hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(from))));
  }
};

// C [rows, columns] (+)= A [rows, k] B; with kAdd false C is overwritten. columns: whole vectors. Fetches what stands
// at `next` as B does here.
template <class Stored, bool kAdd>
HWY_NOINLINE void page_product(std::int64_t rows, std::int64_t columns, std::int64_t k, const float* a,
                               std::int64_t a_row, const std::byte* b, const std::byte* next, float* c) {
  for_gemm_columns(columns, [&](auto vectors, std::int64_t column) {
    for_gemm_rows(rows, [&](auto block_rows, std::int64_t row) {
      GemmBlock<decltype(block_rows)::value, decltype(vectors)::value> sum;
      float* const to = c + row * columns + column;
      if constexpr (kAdd) {
        sum.load(to, columns);
      } else {
        sum.clear();
      }
      const GemmOperands operands = {
          .k = k, .a = a + row * a_row, .a_row = a_row, .a_column = 1, .b = nullptr, .ldb = columns};
      const std::int64_t offset = column * static_cast<std::int64_t>(Stored::kBytes);
      // Wider elements need no help: they go by so fast that fetching twice costs more than it hides.
      if (Stored::kBytes == 1 && row == 0) {
        sum.template accumulate<Stored, true>(operands, b + offset, next + offset);
      } else {
        sum.template accumulate<Stored>(operands, b + offset);
      }
      sum.store(to, columns);
    });
  });
}

// What a row of the task sees of a page.
HWY_INLINE SlotsInView slots_in_view(const AttentionTask& task, std::int64_t row, std::int64_t page) {
  const std::int64_t query = task.first_query + row / task.attention->queries_per_key();
  if (task.sequence->lifetimes != nullptr) {
    return {.lifetimes = task.sequence->lifetimes + page * 2 * kKvPageTokens, .row = static_cast<float>(query)};
  }
  const std::int64_t last = task.sequence->position + query - task.delay;  // the youngest token in view
  const std::int64_t first = task.attention->window > 0 ? last + 1 - task.attention->window : 0;
  return {.from = std::max<std::int64_t>(0, first - page * kKvPageTokens),
          .to = std::min(last + 1 - page * kKvPageTokens, kKvPageTokens)};
}

// One head's softmax over a page: scores become probabilities.
template <class Stored>
HWY_INLINE void update_rows(const AttentionTask& task, std::int64_t index, const std::byte* page, float* scores) {
  const F32 d;
  const KvShape& kv = task.attention->kv;
  const std::int64_t width = kv.padded_value_width();
  const bool scaled = Stored::kBytes == 1;
  const auto* key_scales =
      scaled ? reinterpret_cast<const float*>(page + kv.key_scales_offset(task.key_head)) : nullptr;
  const auto* value_scales =
      scaled ? reinterpret_cast<const float*>(page + kv.value_scales_offset(task.value_head())) : nullptr;
  for (std::int64_t row = 0; row < task.rows(); ++row) {
    const SlotsInView view = slots_in_view(task, row, index);
    if (view.from >= view.to) {
      for (std::size_t j = 0; j < kPageVectors; ++j) {
        hn::StoreU(hn::Zero(d), d, scores + row * kKvPageTokens + static_cast<std::int64_t>(j * kLanes));
      }
      continue;
    }
    update_row(scores + row * kKvPageTokens, view, key_scales, value_scales, task.partial + row * width, width,
               task.maxima()[row], task.sums()[row]);
  }
}

// q [rows, Dk] = the task's queries times scale / ln 2; no sum has begun.
HWY_INLINE void begin_task(const AttentionTask& task, float* q) {
  const Attention& attention = *task.attention;
  const std::int64_t rows = task.rows(), group = attention.queries_per_key(), width = attention.kv.key_width;
  const float factor = attention.scale * 1.44269504F;
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* from = task.q.row(task.sequence->first_row + task.first_query + row / group) +
                        attention.query_head(task.key_head, row % group) * width;
    for (std::int64_t i = 0; i < width; ++i) q[row * width + i] = factor * from[i];
  }
  std::fill(task.partial, task.maxima(), 0.0F);
  std::fill(task.maxima(), task.sums(), kNoScore);
  std::fill(task.sums(), task.sums() + rows, 0.0F);
}

template <class Stored>
HWY_INLINE void run_attention_heads(const AttentionHeads& heads) {
  const AttentionTask& first = heads[0];
  const KvShape& kv = first.attention->kv;
  const std::int64_t rows = first.rows(), key_width = kv.key_width, width = kv.padded_value_width();
  const std::span<float> scratch =
      thread_scratch(static_cast<std::size_t>(heads.count * rows * (key_width + kKvPageTokens)));
  float* const scores = scratch.data();                          // [heads, rows, 64]
  float* const q = scores + heads.count * rows * kKvPageTokens;  // [heads, rows, Dk]
  for (std::int64_t i = 0; i < heads.count; ++i) begin_task(heads[i], q + i * rows * key_width);
  const std::int64_t end = first.first_page + first.pages;
  for (std::int64_t index = first.first_page; index < end; ++index) {
    const std::byte* const page = first.sequence->page(index, kv.page_bytes());
    const std::byte* const next_page = first.sequence->page(std::min(index + 1, end - 1), kv.page_bytes());
    // Fetched ahead is the next head, after the last one's keys the values, after those the next page's keys.
    for (std::int64_t i = 0; i < heads.count; ++i) {
      const std::byte* const next =
          page + (i + 1 < heads.count ? kv.keys_offset(heads[i + 1].key_head) : kv.values_offset(first.value_head()));
      page_product<Stored, false>(rows, kKvPageTokens, key_width, q + i * rows * key_width, key_width,
                                  page + kv.keys_offset(heads[i].key_head), next, scores + i * rows * kKvPageTokens);
    }
    for (std::int64_t i = 0; i < heads.count; ++i) {
      update_rows<Stored>(heads[i], index, page, scores + i * rows * kKvPageTokens);
    }
    for (std::int64_t i = 0; i < heads.count; ++i) {
      const std::byte* const next = i + 1 < heads.count ? page + kv.values_offset(heads[i + 1].value_head())
                                                        : next_page + kv.keys_offset(first.key_head);
      page_product<Stored, true>(rows, width, kKvPageTokens, scores + i * rows * kKvPageTokens, kKvPageTokens,
                                 page + kv.values_offset(heads[i].value_head()), next, heads[i].partial);
    }
  }
}

void attention_heads(const AttentionHeads& heads) {
  switch (heads[0].attention->kv.dtype) {
    case DType::kF32: return run_attention_heads<WeightF32>(heads);
    case DType::kBF16: return run_attention_heads<WeightBF16>(heads);
    default: return run_attention_heads<KvI8>(heads);
  }
}

}  // namespace krait::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
