// best[e] = max over tokens that end at e of best[e - length] + score. Where no token is just one character long, that
// character may be unknown, at 10 below the lowest score of the vocabulary (SentencePiece's penalty). A run of unknown
// characters is one unknown token.
#include "krait/formats/tokenizer_unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "krait/formats/tokenizer_trie.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr TokenId kUnknownHere = -1;

class UnigramModel final : public TokenModel {
 public:
  explicit UnigramModel(UnigramParts parts) : unknown_(parts.unknown), byte_fallback_(parts.byte_fallback) {
    fallback_.fill(kUnknownHere);
    double lowest = parts.tokens.empty() ? 0 : std::numeric_limits<double>::infinity();
    std::vector<std::pair<std::string, std::int32_t>> strings;
    for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
      const auto& [token, score] = parts.tokens[id];
      scores_.push_back(score);
      lowest = std::min(lowest, score);
      if (token.empty()) continue;
      strings.emplace_back(token, static_cast<std::int32_t>(id));
      for (unsigned byte = 0; byte_fallback_ && byte < 256; ++byte) {
        if (token.size() == 6 && token == fmt::format("<0x{:02X}>", byte)) fallback_[byte] = static_cast<TokenId>(id);
      }
    }
    unknown_score_ = lowest - kUnknownPenalty;
    trie_ = ByteTrie(strings);
    tokens_ = std::move(parts.tokens);
    all_bytes_ = std::none_of(fallback_.begin(), fallback_.end(), [](TokenId id) { return id == kUnknownHere; });
  }

  std::string_view kind() const override { return "unigram"; }

  void encode(std::string_view piece, std::vector<TokenId>& ids) const override {
    struct Best {
      double score = 0;
      std::size_t start = std::string_view::npos;  // npos: not reached
      TokenId id = kUnknownHere;
    };
    std::vector<Best> best(piece.size() + 1);
    const auto offer = [&](std::size_t start, std::size_t end, double score, TokenId id) {
      Best& target = best[end];
      if (target.start == std::string_view::npos || score > target.score) target = {score, start, id};
    };
    for (std::size_t at = 0; at < piece.size();) {
      const Utf8Step step = read_utf8(piece, at);
      const std::size_t character = step.status == Utf8Step::kValid ? step.length : 1;
      bool single = false;
      std::uint32_t node = ByteTrie::kRoot;
      for (std::size_t end = at; end < piece.size();) {
        node = trie_.step(node, static_cast<unsigned char>(piece[end++]));
        if (node == ByteTrie::kNoNode) break;
        const TokenId id = trie_.value(node);
        if (id < 0) continue;
        offer(at, end, best[at].score + scores_[static_cast<std::size_t>(id)], id);
        single = single || end - at == character;
      }
      if (!single) offer(at, at + character, best[at].score + unknown_score_, kUnknownHere);
      at += character;
    }
    std::vector<std::pair<std::size_t, TokenId>> path;  // (start, id), last first
    for (std::size_t end = piece.size(); end > 0; end = best[end].start) {
      const Best& step = best[end];
      const bool fused = step.id == kUnknownHere && !path.empty() && path.back().second == kUnknownHere;
      if (fused) {
        path.back().first = step.start;
      } else {
        path.emplace_back(step.start, step.id);
      }
    }
    for (std::size_t i = path.size(); i-- > 0;) {
      const auto [start, id] = path[i];
      const std::size_t end = i == 0 ? piece.size() : path[i - 1].first;
      if (id != kUnknownHere) {
        ids.push_back(id);
      } else {
        emit_unknown(piece.substr(start, end - start), ids);
      }
    }
  }

  bool separable_at(std::string_view marker) const override {
    bool known = false;
    for (const auto& [token, score] : tokens_) {
      known = known || token == marker;
      if (!marker_only_leads(token, marker)) return false;
    }
    return known;  // an unknown marker could fuse with unknown neighbours
  }

 private:
  void emit_unknown(std::string_view text, std::vector<TokenId>& ids) const {
    if (byte_fallback_ && all_bytes_) {
      for (const char c : text) ids.push_back(fallback_[static_cast<unsigned char>(c)]);
    } else if (unknown_) {
      ids.push_back(*unknown_);
    }
  }

  std::vector<std::pair<std::string, double>> tokens_;
  std::vector<double> scores_;
  ByteTrie trie_;
  std::array<TokenId, 256> fallback_;
  std::optional<TokenId> unknown_;
  double unknown_score_ = 0;
  bool byte_fallback_ = false;
  bool all_bytes_ = false;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram_model(UnigramParts parts) {
  return std::make_unique<UnigramModel>(std::move(parts));
}

}  // namespace krait::formats
