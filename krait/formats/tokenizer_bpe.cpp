// The merge loop. Short pieces scan an array for the lowest rank; long ones keep a heap over a linked list, so that a
// piece of n symbols costs O(n log n) whatever it holds.
#include "krait/formats/tokenizer_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <queue>

#include "krait/core/check.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

constexpr std::uint64_t kEmptyKey = ~std::uint64_t{0};
constexpr TokenId kNoToken = -1;

std::uint64_t pair_key(TokenId left, TokenId right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
}

class BpeModel final : public TokenModel {
 public:
  explicit BpeModel(BpeParts parts) : parts_(std::move(parts)) {
    byte_symbol_.fill(kNoToken);
    fallback_.fill(kNoToken);
    ids_.reserve(parts_.tokens.size());
    for (auto& [token, id] : parts_.tokens) {
      longest_ = std::max(longest_, token.size());
      if (id >= parts_.first_virtual) {
        const auto index = static_cast<std::size_t>(id - parts_.first_virtual);
        if (virtual_characters_.size() <= index) virtual_characters_.resize(index + 1);
        virtual_characters_[index] = token;
      }
      ids_.emplace(std::move(token), id);
    }
    parts_.tokens.clear();
    parts_.tokens.shrink_to_fit();
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_symbol_[byte] = look_up(std::string(1, static_cast<char>(static_cast<unsigned char>(byte))));
      fallback_[byte] = look_up(fmt::format("<0x{:02X}>", byte));
    }
  }

  std::string_view kind() const override { return "bpe"; }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    if (parts_.ignore_merges && piece.size() <= longest_) {
      const TokenId whole = look_up(piece);
      if (whole != kNoToken && whole < parts_.first_virtual) {
        ids.push_back(whole);
        return;
      }
    }
    std::array<TokenId, kShort> symbols;
    if (parts_.bytes && piece.size() <= kShort) {
      bool known = true;
      for (std::size_t i = 0; i < piece.size(); ++i) {
        symbols[i] = byte_symbol_[static_cast<unsigned char>(piece[i])];
        known = known && symbols[i] != kNoToken;
      }
      if (known) {
        merge_short(symbols.data(), piece.size(), ids);
        return;
      }
    }
    std::vector<TokenId> spelled;
    spell(piece, spelled);
    if (spelled.size() <= kShort) {
      merge_short(spelled.data(), spelled.size(), ids);
    } else {
      merge_long(spelled, ids);
    }
  }

  bool separable_at(std::string_view marker) const override {
    if (ids_.find(marker) == ids_.end()) return false;  // unknown markers could fuse with unknown neighbours
    return std::all_of(ids_.begin(), ids_.end(),
                       [&](const auto& entry) { return marker_only_leads(entry.first, marker); });
  }

 private:
  static constexpr std::size_t kShort = 64;

  TokenId look_up(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? kNoToken : found->second;
  }

  // The symbols a piece starts from. Unknown characters become fallback bytes, the unknown token, or nothing.
  void spell(std::string_view piece, std::vector<TokenId>& symbols) const {
    bool after_unknown = false;
    for (std::size_t at = 0; at < piece.size();) {
      std::size_t length = 1;
      if (!parts_.bytes) {
        const Utf8Step step = read_utf8(piece, at);
        if (step.status == Utf8Step::kValid) length = step.length;
      }
      const std::string_view character = piece.substr(at, length);
      at += length;
      const TokenId id = parts_.bytes ? byte_symbol_[static_cast<unsigned char>(character[0])] : look_up(character);
      if (id != kNoToken) {
        symbols.push_back(id);
        after_unknown = false;
        continue;
      }
      if (parts_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char c) {
            return fallback_[static_cast<unsigned char>(c)] != kNoToken;
          })) {
        for (const char c : character) symbols.push_back(fallback_[static_cast<unsigned char>(c)]);
        after_unknown = false;
        continue;
      }
      if (parts_.unknown && !(parts_.fuse_unknown && after_unknown)) symbols.push_back(*parts_.unknown);
      after_unknown = true;
    }
  }

  void emit(TokenId id, std::vector<TokenId>& ids) const {
    if (id < parts_.first_virtual) {
      ids.push_back(id);
      return;
    }
    // A character that only merges know, and that was not merged.
    const std::string& character = virtual_characters_[static_cast<std::size_t>(id - parts_.first_virtual)];
    for (const char c : character) {
      const TokenId byte = parts_.byte_fallback ? fallback_[static_cast<unsigned char>(c)] : kNoToken;
      if (byte != kNoToken) ids.push_back(byte);
    }
    if (!parts_.byte_fallback && parts_.unknown) ids.push_back(*parts_.unknown);
  }

  void merge_short(TokenId* symbols, std::size_t count, std::vector<TokenId>& ids) const {
    std::array<MergeTable::Merge, kShort> merges;  // of symbol i with symbol i + 1
    for (std::size_t i = 0; i + 1 < count; ++i) merges[i] = parts_.merges.find(symbols[i], symbols[i + 1]);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i) {
        if (merges[i].rank < merges[best].rank) best = i;
      }
      if (merges[best].rank == MergeTable::kNoMerge) break;
      symbols[best] = merges[best].token;
      --count;
      for (std::size_t i = best + 1; i < count; ++i) symbols[i] = symbols[i + 1];
      for (std::size_t i = best + 1; i + 1 < count; ++i) merges[i] = merges[i + 1];
      if (best > 0) merges[best - 1] = parts_.merges.find(symbols[best - 1], symbols[best]);
      if (best + 1 < count) merges[best] = parts_.merges.find(symbols[best], symbols[best + 1]);
    }
    for (std::size_t i = 0; i < count; ++i) emit(symbols[i], ids);
  }

  void merge_long(std::vector<TokenId>& symbols, std::vector<TokenId>& ids) const {
    struct Candidate {
      std::uint32_t rank;
      std::size_t left;
      TokenId left_symbol, right_symbol;  // as they were when the candidate was found
      bool operator>(const Candidate& other) const {
        return rank != other.rank ? rank > other.rank : left > other.left;
      }
    };
    constexpr auto kEnd = static_cast<std::size_t>(-1);
    const std::size_t count = symbols.size();
    std::vector<std::size_t> previous(count);
    std::vector<std::size_t> next(count);
    for (std::size_t i = 0; i < count; ++i) {
      previous[i] = i == 0 ? kEnd : i - 1;
      next[i] = i + 1 == count ? kEnd : i + 1;
    }
    std::vector<Candidate> found;
    const auto candidate = [&](std::size_t left) -> std::optional<Candidate> {
      const MergeTable::Merge merge = parts_.merges.find(symbols[left], symbols[next[left]]);
      if (merge.rank == MergeTable::kNoMerge) return std::nullopt;
      return Candidate{merge.rank, left, symbols[left], symbols[next[left]]};
    };
    for (std::size_t i = 0; i + 1 < count; ++i) {
      if (const auto c = candidate(i)) found.push_back(*c);
    }
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(found));
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      const std::size_t right = symbols[top.left] == top.left_symbol ? next[top.left] : kEnd;
      if (right == kEnd || symbols[right] != top.right_symbol) continue;  // overtaken by an earlier merge
      symbols[top.left] = parts_.merges.find(top.left_symbol, top.right_symbol).token;
      symbols[right] = kNoToken;
      next[top.left] = next[right];
      if (next[right] != kEnd) previous[next[right]] = top.left;
      if (previous[top.left] != kEnd) {
        if (const auto c = candidate(previous[top.left])) queue.push(*c);
      }
      if (next[top.left] != kEnd) {
        if (const auto c = candidate(top.left)) queue.push(*c);
      }
    }
    for (std::size_t i = 0; i != kEnd; i = next[i]) emit(symbols[i], ids);
  }

  BpeParts parts_;
  TokenMap ids_;
  std::vector<std::string> virtual_characters_;
  std::array<TokenId, 256> byte_symbol_;
  std::array<TokenId, 256> fallback_;
  std::size_t longest_ = 0;
};

}  // namespace

MergeTable::MergeTable(std::size_t merges) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(merges * 2 + 2, 16));
  slots_.assign(slots, Slot{kEmptyKey, {}});
  shift_ = 64 - std::countr_zero(slots);
}

// Fibonacci hashing: the high bits of the product by 2^64 / golden ratio.
std::size_t MergeTable::slot_of(std::uint64_t key) const {
  return static_cast<std::size_t>(((key ^ (key >> 29)) * 0x9E3779B97F4A7C15U) >> shift_);
}

void MergeTable::insert(TokenId left, TokenId right, Merge merge) {
  KRAIT_CHECK(used_ * 2 < slots_.size(), "merge table of {} slots is full", slots_.size());
  const std::uint64_t key = pair_key(left, right);
  std::size_t slot = slot_of(key);
  while (slots_[slot].key != kEmptyKey) {
    if (slots_[slot].key == key) break;
    slot = (slot + 1) & (slots_.size() - 1);
  }
  used_ += slots_[slot].key == kEmptyKey ? 1 : 0;
  slots_[slot] = {key, merge};
}

MergeTable::Merge MergeTable::find(TokenId left, TokenId right) const {
  const std::uint64_t key = pair_key(left, right);
  std::size_t slot = slot_of(key);
  while (slots_[slot].key != kEmptyKey) {
    if (slots_[slot].key == key) return slots_[slot].merge;
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return {};
}

void add_scored_merges(const std::vector<float>& score_of_id, std::int64_t vocabulary_size, BpeParts& parts) {
  TokenMap ids;
  for (const auto& [token, id] : parts.tokens) ids.emplace(token, id);
  parts.first_virtual = static_cast<TokenId>(vocabulary_size);
  auto next_virtual = parts.first_virtual;
  const std::size_t count = parts.tokens.size();
  std::size_t splits = 0;
  for (std::size_t t = 0; t < count; ++t) {
    const std::string token = parts.tokens[t].first;
    for (std::size_t at = 0; at < token.size();) {
      const Utf8Step step = read_utf8(token, at);
      const std::size_t length = step.status == Utf8Step::kValid ? step.length : 1;
      const std::string character = token.substr(at, length);
      if (ids.emplace(character, next_virtual).second) parts.tokens.emplace_back(character, next_virtual++);
      at += length;
      ++splits;
    }
  }
  // Equal scores are equal ranks: the leftmost pair goes first.
  std::vector<float> scores = score_of_id;
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  const auto rank_of = [&](float score) {
    return static_cast<std::uint32_t>(std::lower_bound(scores.begin(), scores.end(), score, std::greater<>()) -
                                      scores.begin());
  };
  parts.merges = MergeTable(splits);
  for (std::size_t t = 0; t < count; ++t) {
    const auto& [token, id] = parts.tokens[t];
    const std::uint32_t rank = rank_of(score_of_id[static_cast<std::size_t>(id)]);
    for (std::size_t at = 1; at < token.size(); ++at) {
      const auto left = ids.find(std::string_view(token).substr(0, at));
      if (left == ids.end()) continue;
      const auto right = ids.find(std::string_view(token).substr(at));
      if (right != ids.end()) parts.merges.insert(left->second, right->second, {rank, id});
    }
  }
}

std::unique_ptr<TokenModel> make_bpe_model(BpeParts parts) { return std::make_unique<BpeModel>(std::move(parts)); }

}  // namespace krait::formats
