#include "krait/train/data_deduplication.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "krait/core/check.h"
#include "krait/core/hash.h"
#include "krait/core/random.h"

namespace krait::train {
namespace {

constexpr std::size_t kBandRows = kSignatureSize / kSignatureBands;
constexpr std::string_view kBlank = " \t\r\n\v\f";

// Multiply-and-shift hashing (Dietzfelbinger et al. 1997) of what is a hash already.
struct Multipliers {
  std::array<std::uint64_t, kSignatureSize> factor, summand;
  Multipliers() {
    Random random(0x6d696e68617368);  // "minhash": part of what a signature is
    for (std::size_t i = 0; i < kSignatureSize; ++i) {
      factor[i] = random.next() | 1;
      summand[i] = random.next();
    }
  }
};

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
    if (text.empty()) return words;
    words.push_back(text.substr(0, text.find_first_of(kBlank)));
    text.remove_prefix(words.back().size());
  }
}

std::uint64_t band_key(const Signature& signature, std::size_t band) {
  std::array<std::uint32_t, kBandRows + 1> rows;
  std::copy_n(signature.begin() + static_cast<std::ptrdiff_t>(band * kBandRows), kBandRows, rows.begin());
  rows.back() = static_cast<std::uint32_t>(band);
  return hash128(std::as_bytes(std::span(rows))).low;
}

}  // namespace

std::vector<std::uint64_t> shingles_of(std::string_view text) {
  const auto words = words_of(text);
  std::vector<std::uint64_t> shingles;
  if (words.empty()) return shingles;
  const std::size_t length = std::min(words.size(), kShingleWords);
  for (std::size_t first = 0; first + length <= words.size(); ++first) {
    Hasher hasher;
    for (std::size_t i = 0; i < length; ++i) hasher.feed_text(words[first + i]);
    shingles.push_back(hasher.value().low);
  }
  std::ranges::sort(shingles);
  const auto repeated = std::ranges::unique(shingles);
  shingles.erase(repeated.begin(), repeated.end());
  return shingles;
}

Signature signature_of(std::span<const std::uint64_t> shingles) {
  static const Multipliers multipliers;
  Signature signature;
  signature.fill(std::numeric_limits<std::uint32_t>::max());
  for (const std::uint64_t shingle : shingles) {
    for (std::size_t i = 0; i < kSignatureSize; ++i) {
      const auto hash = static_cast<std::uint32_t>((shingle * multipliers.factor[i] + multipliers.summand[i]) >> 32);
      signature[i] = std::min(signature[i], hash);
    }
  }
  return signature;
}

double signature_likeness(const Signature& a, const Signature& b) {
  std::size_t agreeing = 0;
  for (std::size_t i = 0; i < kSignatureSize; ++i) agreeing += a[i] == b[i] ? 1 : 0;
  return static_cast<double>(agreeing) / static_cast<double>(kSignatureSize);
}

double jaccard(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
  std::size_t both = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    both += a[i] == b[j] ? 1 : 0;
    const bool advance_a = a[i] <= b[j];
    j += b[j] <= a[i] ? 1 : 0;
    i += advance_a ? 1 : 0;
  }
  const std::size_t either = a.size() + b.size() - both;
  return either == 0 ? 1 : static_cast<double>(both) / static_cast<double>(either);
}

Deduplication find_duplicates(std::span<const std::string_view> documents, double likeness, ThreadPool& pool) {
  KRAIT_CHECK(likeness > 0 && likeness <= 1, "a likeness of {}", likeness);
  std::vector<Signature> signatures(documents.size());
  pool.parallel_for(static_cast<std::int64_t>(documents.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      signatures[i] = signature_of(shingles_of(documents[i]));
    }
  });

  // The share of agreeing places has a standard deviation of at most sqrt(1/4 / 128) = 0.045: what is four of them
  // below is not worth the comparison of sets.
  constexpr double kMargin = 0.18;
  Deduplication found;
  found.duplicate_of.assign(documents.size(), -1);
  std::unordered_map<std::uint64_t, std::vector<std::size_t>> kept_with_band;
  std::vector<std::size_t> candidates;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    std::array<std::uint64_t, kSignatureBands> keys;
    candidates.clear();
    for (std::size_t band = 0; band < kSignatureBands; ++band) {
      keys[band] = band_key(signatures[i], band);
      const auto bucket = kept_with_band.find(keys[band]);
      if (bucket == kept_with_band.end()) continue;
      candidates.insert(candidates.end(), bucket->second.begin(), bucket->second.end());
    }
    std::ranges::sort(candidates);
    const auto repeated = std::ranges::unique(candidates);
    candidates.erase(repeated.begin(), repeated.end());
    const auto shingles = candidates.empty() ? std::vector<std::uint64_t>() : shingles_of(documents[i]);
    for (const std::size_t candidate : candidates) {
      if (signature_likeness(signatures[i], signatures[candidate]) < likeness - kMargin) continue;
      ++found.compared;
      if (jaccard(shingles, shingles_of(documents[candidate])) < likeness) continue;
      found.duplicate_of[i] = static_cast<std::int64_t>(candidate);
      ++found.duplicates;
      break;
    }
    if (found.duplicate_of[i] >= 0) continue;
    for (const std::uint64_t key : keys) kept_with_band[key].push_back(i);
  }
  return found;
}

}  // namespace krait::train
