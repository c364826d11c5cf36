// How keys and values of attention stand in memory: pages of 64 tokens, so that a sequence's cache grows without
// moving, and whole pages can be shared by forks. A page holds, for one attention layer,
//   keys    [key heads, key width, 64]           a row for each component, so that scores are vectors over tokens
//   values  [value heads, 64, value width padded to 16]
// as f32, bf16 (rounded to nearest) or int8 with a scale for each token and head:
//   scales  [key heads, 64], [value heads, 64] f32:  value = q * scale, scale = largest |value| / 127
// Every piece starts at a multiple of 64 bytes. Zero bytes are zero keys and values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "krait/core/dtype.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

inline constexpr std::int64_t kKvPageTokens = 64;

struct KvShape {
  std::int64_t key_heads = 0;
  std::int64_t key_width = 0;
  std::int64_t value_heads = 0;  // key_heads, or a fraction of it where heads share values
  std::int64_t value_width = 0;
  DType dtype = DType::kF32;  // kF32, kBF16 or kI8

  std::int64_t element_bytes() const { return info(dtype).bytes_per_block; }
  std::int64_t padded_value_width() const { return (value_width + 15) / 16 * 16; }

  // Bytes from the start of a page.
  std::int64_t keys_offset(std::int64_t head) const { return head * key_width * kKvPageTokens * element_bytes(); }
  std::int64_t values_offset(std::int64_t head) const {
    return keys_offset(key_heads) + head * kKvPageTokens * padded_value_width() * element_bytes();
  }
  std::int64_t key_scales_offset(std::int64_t head) const {
    return values_offset(value_heads) + head * kKvPageTokens * static_cast<std::int64_t>(sizeof(float));
  }
  std::int64_t value_scales_offset(std::int64_t head) const { return key_scales_offset(key_heads + head); }
  std::int64_t page_bytes() const {
    return dtype == DType::kI8 ? value_scales_offset(value_heads) : values_offset(value_heads);
  }
};

// One sequence's share of a call: its new rows, how many tokens stood in the cache before them, and where the pages
// are. Either `pages`, one for every 64 tokens of the sequence from its first on, in each of which this layer's part
// begins at `offset`; or a ring of `ring_pages` pages one after the other, which keeps what a sliding window needs; or
// `pages` of chosen tokens in any order (`lifetimes`).
struct KvSequence {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t position = 0;
  std::byte* const* pages = nullptr;
  std::uint64_t offset = 0;
  std::byte* ring = nullptr;
  std::int64_t ring_pages = 0;
  // Not null: pages of chosen tokens, `chosen_pages` of them. For each page 64 first rows, then 64 end rows: row r of
  // this sequence's share sees the slots with first <= r < end, wherever the slots' tokens stood.
  const float* lifetimes = nullptr;
  std::int64_t chosen_pages = 0;

  std::byte* page(std::int64_t index, std::int64_t page_bytes) const {
    return ring != nullptr ? ring + (index % ring_pages) * page_bytes : pages[index] + offset;
  }
};

inline std::int64_t kv_pages(std::int64_t tokens) { return (tokens + kKvPageTokens - 1) / kKvPageTokens; }

// Pages of a ring for a window of so many tokens (the token itself counted): those that the first token of a page looks
// back to, and its own.
inline std::int64_t kv_ring_pages(std::int64_t window) { return kv_pages(window - 1) + 1; }

// Writes tokens [first, first + count) of the sequence, whose key and value rows stand at `row` on of k [M, Hk*Dk] and
// v [M, Hv*Dv], into its pages: one head of the keys, or of the values. On the calling thread.
void store_keys(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                std::int64_t count, std::int64_t row, RowsIn k);
void store_values(const KvShape& shape, const KvSequence& sequence, std::int64_t head, std::int64_t first,
                  std::int64_t count, std::int64_t row, RowsIn v);

// Copies the keys and values of one token, as they are stored, from a slot of one page to a slot of another (or of the
// same).
void copy_token(const KvShape& shape, const std::byte* from_page, std::int64_t from_slot, std::byte* to_page,
                std::int64_t to_slot);

}  // namespace krait::kernels
