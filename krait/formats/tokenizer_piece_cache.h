// Remembers the ids of short pieces: text repeats its words, and a look-up is far cheaper than merging.
// Bounded: a table of fixed size in which a new piece displaces the old one in its slot. Not for several threads.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "krait/formats/tokenizer_model.h"

namespace krait::formats {

class PieceCache {
 public:
  void encode(const TokenModel& model, std::string_view piece, std::vector<TokenId>& ids) {
    if (piece.empty() || piece.size() > kBytes) return model.encode(piece, ids);
    if (entries_.empty()) entries_.resize(kEntries);
    Entry& entry = entries_[hash(piece) & (kEntries - 1)];
    if (entry.size == piece.size() && std::memcmp(entry.bytes, piece.data(), piece.size()) == 0) {
      ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
      return;
    }
    const std::size_t before = ids.size();
    model.encode(piece, ids);
    const std::size_t count = ids.size() - before;
    if (count == 0 || count > kIds) return;
    entry.size = static_cast<std::uint8_t>(piece.size());
    entry.count = static_cast<std::uint8_t>(count);
    std::memcpy(entry.bytes, piece.data(), piece.size());
    std::memcpy(entry.ids, ids.data() + before, count * sizeof(TokenId));
  }

 private:
  // 26 bytes and 9 ids fill one cache line of 64 bytes with the two counts.
  static constexpr std::size_t kBytes = 26;
  static constexpr std::size_t kIds = 9;
  static constexpr std::size_t kEntries = 1 << 14;
  struct Entry {
    TokenId ids[kIds];
    std::uint8_t size;  // 0: free
    std::uint8_t count;
    char bytes[kBytes];
  };
  static_assert(sizeof(Entry) == 64);

  static std::size_t hash(std::string_view piece) {
    std::uint64_t mixed = piece.size();
    const char* at = piece.data();
    std::size_t left = piece.size();
    while (left >= 8) {
      std::uint64_t word;
      std::memcpy(&word, at, 8);
      mixed = (mixed ^ word) * 0x9E3779B97F4A7C15U;
      mixed ^= mixed >> 32;
      at += 8;
      left -= 8;
    }
    std::uint64_t word = 0;
    std::memcpy(&word, at, left);
    mixed = (mixed ^ word) * 0x9E3779B97F4A7C15U;
    return static_cast<std::size_t>(mixed ^ (mixed >> 29));
  }

  std::vector<Entry> entries_;
};

}  // namespace krait::formats
