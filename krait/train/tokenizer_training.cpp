// The merge loop. Counts of pairs change only in the words that held the merged pair; a heap over the counts holds
// numbers that may have become too high since, which are put right when they come up.
#include "krait/train/tokenizer_training.h"

#include <algorithm>
#include <queue>
#include <span>
#include <unordered_set>

#include "krait/core/check.h"
#include "krait/formats/tokenizer_byte_alphabet.h"

namespace krait::train {
namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    const auto key = static_cast<std::uint64_t>(static_cast<std::uint32_t>(pair.first)) << 32 |
                     static_cast<std::uint32_t>(pair.second);
    return static_cast<std::size_t>(key * 0x9e3779b97f4a7c15ULL >> 16);
  }
};

struct PairPlaces {
  std::int64_t count = 0;
  std::vector<std::uint32_t> words;  // that held the pair at some time; may name one twice
};

struct Candidate {
  std::int64_t count;
  Pair pair;
};

// The top of the heap is the most frequent pair; of equals, the last in the order of how files spell them.
struct RarerPair {
  const std::vector<std::string>* spelled;

  bool operator()(const Candidate& a, const Candidate& b) const {
    if (a.count != b.count) return a.count < b.count;
    if (const int left = spelling(a.pair.first).compare(spelling(b.pair.first)); left != 0) return left < 0;
    return spelling(a.pair.second) < spelling(b.pair.second);
  }
  const std::string& spelling(std::int32_t id) const { return (*spelled)[static_cast<std::size_t>(id)]; }
};

class MergeLoop {
 public:
  // `spelled`: the token of each id, which grows while this is used.
  MergeLoop(const WordCounter& words, std::int64_t first_byte, const std::vector<std::string>& spelled)
      : queue_(RarerPair{&spelled}) {
    // In a fixed order, for no reason but that a run is easier to follow.
    std::vector<std::pair<std::string_view, std::int64_t>> sorted(words.counts().begin(), words.counts().end());
    std::ranges::sort(sorted);
    KRAIT_CHECK(sorted.size() < UINT32_MAX, "{} different words", sorted.size());
    for (const auto& [text, count] : sorted) {
      if (text.size() < 2) continue;
      const auto word = static_cast<std::uint32_t>(words_.size());
      words_.push_back({symbols_.size(), text.size(), count});
      for (const char c : text) {
        symbols_.push_back(static_cast<std::int32_t>(first_byte + static_cast<unsigned char>(c)));
      }
      count_pairs(word, count);
    }
    for (const auto& [pair, places] : pairs_) queue_.push({places.count, pair});
  }

  // The pair to merge next; count 0 when there is none.
  Candidate best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.pair);
      const std::int64_t count = found == pairs_.end() ? 0 : found->second.count;
      if (count == top.count) return top;
      if (count > 0) queue_.push({count, top.pair});
    }
    return {0, {}};
  }

  // From now on `pair` is the one token `merged`, wherever it stands.
  void merge(const Pair& pair, std::int32_t merged) {
    const PairPlaces places = std::move(pairs_[pair]);
    pairs_.erase(pair);
    std::vector<Pair> risen;
    for (const std::uint32_t word : places.words) {
      auto symbols = symbols_of(word);
      if (!holds(symbols, pair)) continue;  // named twice, or lost to another merge
      const std::int64_t count = words_[word].count;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto known = pairs_.find({symbols[i], symbols[i + 1]});
        if (known != pairs_.end()) known->second.count -= count;
      }
      words_[word].length = merged_in_place(symbols, pair, merged);
      symbols = symbols_of(word);
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        PairPlaces& at = pairs_[{symbols[i], symbols[i + 1]}];
        at.count += count;
        if (symbols[i] != merged && symbols[i + 1] != merged) continue;
        if (at.words.empty() || at.words.back() != word) at.words.push_back(word);
        risen.emplace_back(symbols[i], symbols[i + 1]);
      }
    }
    std::ranges::sort(risen);
    const auto repeated = std::ranges::unique(risen);
    risen.erase(repeated.begin(), repeated.end());
    for (const Pair& one : risen) queue_.push({pairs_[one].count, one});
  }

 private:
  struct Word {
    std::size_t begin, length;  // in symbols_
    std::int64_t count;
  };

  std::span<std::int32_t> symbols_of(std::uint32_t word) {
    return std::span(symbols_).subspan(words_[word].begin, words_[word].length);
  }

  void count_pairs(std::uint32_t word, std::int64_t count) {
    const auto symbols = symbols_of(word);
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      PairPlaces& at = pairs_[{symbols[i], symbols[i + 1]}];
      at.count += count;
      if (at.words.empty() || at.words.back() != word) at.words.push_back(word);
    }
  }

  static bool holds(std::span<const std::int32_t> symbols, const Pair& pair) {
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i] == pair.first && symbols[i + 1] == pair.second) return true;
    }
    return false;
  }

  // From left to right, so that of "aaa" the first two are merged. The new length.
  static std::size_t merged_in_place(std::span<std::int32_t> symbols, const Pair& pair, std::int32_t merged) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool here = i + 1 < symbols.size() && symbols[i] == pair.first && symbols[i + 1] == pair.second;
      symbols[kept++] = here ? merged : symbols[i];
      i += here ? 1 : 0;
    }
    return kept;
  }

  std::vector<std::int32_t> symbols_;  // of all words
  std::vector<Word> words_;
  std::unordered_map<Pair, PairPlaces, PairHash> pairs_;
  std::priority_queue<Candidate, std::vector<Candidate>, RarerPair> queue_;
};

}  // namespace

Result<TokenizerTrainer> TokenizerTrainer::make(TokenizerTrainingOptions options) {
  constexpr std::int64_t kBytes = 256;
  const auto special = static_cast<std::int64_t>(options.special_tokens.size());
  if (options.vocabulary < kBytes + special || options.vocabulary > formats::Vocabulary::kMaxId) {
    return fail(ErrorCode::kInvalidArgument,
                "[tokenizer] a vocabulary of {} tokens: {} bytes and {} special tokens are the least, {} the most",
                options.vocabulary, kBytes, special, formats::Vocabulary::kMaxId);
  }
  if (options.least_count < 1) {
    return fail(ErrorCode::kInvalidArgument, "[tokenizer] a least count of {} is below 1", options.least_count);
  }
  for (std::size_t i = 0; i < options.special_tokens.size(); ++i) {
    const std::string& token = options.special_tokens[i];
    const auto first = std::ranges::find(options.special_tokens, token) - options.special_tokens.begin();
    // Tokens of one byte are there already.
    if (token.size() < 2 || static_cast<std::size_t>(first) != i) {
      return fail(ErrorCode::kInvalidArgument, "[tokenizer] special token '{}' {}", token,
                  token.size() < 2 ? "is shorter than two bytes" : "is named twice");
    }
  }
  KRAIT_ASSIGN(WordCounter words, WordCounter::make(options.split, options.special_tokens));
  return TokenizerTrainer(std::move(options), std::move(words));
}

Result<TrainedTokenizer> TokenizerTrainer::train(const ProgressFunction& progress) const {
  TrainedTokenizer trained{options_, options_.special_tokens, {}};
  const auto first_byte = static_cast<std::int64_t>(trained.tokens.size());
  std::unordered_map<std::string, std::int32_t> id_of;
  for (unsigned byte = 0; byte < 256; ++byte) {
    trained.tokens.emplace_back(1, static_cast<char>(static_cast<unsigned char>(byte)));
  }
  std::vector<std::string> spelled;
  for (const std::string& token : trained.tokens) spelled.push_back(formats::spell_bytes(token));
  // A merge that leads to an older token can bring a pair back that was merged already; it has its line then.
  std::unordered_set<Pair, PairHash> merged;
  MergeLoop loop(words_, first_byte, spelled);
  while (static_cast<std::int64_t>(trained.tokens.size()) < options_.vocabulary) {
    if (progress && !progress(static_cast<std::int64_t>(trained.tokens.size()), options_.vocabulary)) {
      return fail(ErrorCode::kCancelled, "[tokenizer] stopped at {} of {} tokens", trained.tokens.size(),
                  options_.vocabulary);
    }
    const Candidate best = loop.best();
    if (best.count < options_.least_count) break;
    const auto& [left, right] = best.pair;
    // "a" + "bc" and "ab" + "c" make one token: the second merge leads to the first one's.
    const auto [known, fresh] =
        id_of.emplace(trained.tokens[static_cast<std::size_t>(left)] + trained.tokens[static_cast<std::size_t>(right)],
                      static_cast<std::int32_t>(trained.tokens.size()));
    if (fresh) {
      trained.tokens.push_back(known->first);
      spelled.push_back(formats::spell_bytes(known->first));
    }
    if (merged.insert(best.pair).second) trained.merges.push_back(best.pair);
    loop.merge(best.pair, known->second);
  }
  return trained;
}

}  // namespace krait::train
