#include "krait/train/data_deduplication.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

std::vector<std::string> random_words(Random& random, std::size_t count) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < count; ++i) words.push_back(fmt::format("w{}", below(random, 5000)));
  return words;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + (text.size() % 80 < 70 ? " " : "\n");
  return text;
}

// The definition, from the words themselves.
using ShingleSet = std::set<std::string>;

std::vector<ShingleSet> shingle_sets(const std::vector<std::vector<std::string>>& documents) {
  std::vector<ShingleSet> sets;
  for (const auto& words : documents) {
    ShingleSet& set = sets.emplace_back();
    for (std::size_t i = 0; i + 5 <= words.size(); ++i) {
      set.insert(fmt::format("{}", fmt::join(words.begin() + static_cast<std::ptrdiff_t>(i),
                                             words.begin() + static_cast<std::ptrdiff_t>(i) + 5, " ")));
    }
  }
  return sets;
}

double exact_likeness(const ShingleSet& a, const ShingleSet& b) {
  std::size_t both = 0;
  for (const auto& shingle : a) both += b.contains(shingle) ? 1 : 0;
  return static_cast<double>(both) / static_cast<double>(a.size() + b.size() - both);
}

// Originals with copies in which some words were changed.
std::vector<std::vector<std::string>> planted(std::uint64_t seed, std::size_t originals, std::size_t copies) {
  Random random(seed);
  std::vector<std::vector<std::string>> documents;
  for (std::size_t i = 0; i < originals; ++i) {
    const auto original = random_words(random, 100 + below(random, 200));
    documents.push_back(original);
    for (std::size_t copy = 0; copy < copies; ++copy) {
      auto changed = original;
      for (std::uint64_t n = below(random, 12); n > 0; --n) {
        changed[below(random, changed.size())] = fmt::format("x{}", random.next());
      }
      documents.push_back(std::move(changed));
    }
  }
  shuffle(random, std::span(documents));
  return documents;
}

TEST(Deduplication, FindsPlantedDuplicatesAsTheExactIndexDoes) {
  ThreadPool pool(2);
  const auto documents = planted(1, 60, 4);
  std::vector<std::string> texts;
  for (const auto& words : documents) texts.push_back(joined(words));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto sets = shingle_sets(documents);
  constexpr double kLikeness = 0.8;
  const Deduplication found = find_duplicates(views, kLikeness, pool);

  // Exactly what comparing every pair in the same order keeps: at 0.8 the bands miss a pair with probability 5e-8.
  std::vector<std::size_t> kept;
  std::int64_t duplicates = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    bool duplicate = false;
    for (const std::size_t j : kept) {
      duplicate = duplicate || exact_likeness(sets[i], sets[j]) >= kLikeness;
    }
    EXPECT_EQ(found.duplicate_of[i] >= 0, duplicate) << i;
    if (found.duplicate_of[i] >= 0) {
      const auto original = static_cast<std::size_t>(found.duplicate_of[i]);
      EXPECT_LT(original, i);
      EXPECT_EQ(found.duplicate_of[original], -1) << "a duplicate of what was dropped itself";
      EXPECT_GE(exact_likeness(sets[i], sets[original]), kLikeness);
    }
    if (!duplicate) kept.push_back(i);
    duplicates += duplicate ? 1 : 0;
  }
  EXPECT_EQ(found.duplicates, duplicates);
  EXPECT_GT(duplicates, 60) << "the test has to plant some";
  EXPECT_GT(kept.size(), 100U);
  // All pairs would be 300 * 299 / 2; those of different originals are hardly ever compared.
  EXPECT_LT(found.compared, 1000);

  ThreadPool alone(1);
  EXPECT_EQ(find_duplicates(views, kLikeness, alone).duplicate_of, found.duplicate_of);
}

// An agreeing place has probability s, so the share of 128 has a standard deviation of sqrt(s (1 - s) / 128).
TEST(Deduplication, SignaturesEstimateTheIndex) {
  const auto documents = planted(2, 30, 3);
  const auto sets = shingle_sets(documents);
  double error = 0;
  int pairs = 0;
  std::vector<std::vector<std::uint64_t>> shingles;
  for (const auto& words : documents) shingles.push_back(shingles_of(joined(words)));
  for (std::size_t i = 0; i < documents.size(); ++i) {
    for (std::size_t j = i + 1; j < documents.size(); ++j) {
      const double exact = exact_likeness(sets[i], sets[j]);
      const auto &a = shingles[i], &b = shingles[j];
      EXPECT_DOUBLE_EQ(jaccard(a, b), exact);
      if (exact < 0.05) continue;
      const double estimate = signature_likeness(signature_of(a), signature_of(b));
      const double deviation = std::sqrt(exact * (1 - exact) / 128);
      EXPECT_NEAR(estimate, exact, 5 * deviation + 1e-12);
      error += estimate - exact;
      ++pairs;
    }
  }
  ASSERT_GT(pairs, 100);
  EXPECT_NEAR(error / pairs, 0, 5 * 0.045 / std::sqrt(pairs / 3.0)) << "pairs of one original are not independent";
}

TEST(Deduplication, KnowsShortAndEmptyTexts) {
  ThreadPool pool(1);
  EXPECT_TRUE(shingles_of(" \n ").empty());
  EXPECT_EQ(shingles_of("one two").size(), 1U);
  EXPECT_EQ(shingles_of("one  two\n"), shingles_of("one two"));
  EXPECT_NE(shingles_of("onet wo"), shingles_of("one two"));
  EXPECT_EQ(shingles_of("a a a a a a a").size(), 1U);
  const std::vector<std::string_view> texts = {"one two", "", "one\ttwo", "one three", " "};
  EXPECT_EQ(find_duplicates(texts, 0.8, pool).duplicate_of, (std::vector<std::int64_t>{-1, -1, 0, -1, 1}));
  EXPECT_TRUE(find_duplicates({}, 0.8, pool).duplicate_of.empty());
}

}  // namespace
}  // namespace krait::train
