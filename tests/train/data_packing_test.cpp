#include "krait/train/data_packing.h"

#include <gtest/gtest.h>

#include <map>

#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

std::vector<std::int64_t> random_lengths(std::uint64_t seed, std::int64_t documents, std::int64_t longest) {
  Random random = random_stream(seed, {});
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < documents; ++i) lengths.push_back(between(random, 0, longest));
  return lengths;
}

TEST(Packing, HoldsEveryTokenOnceAndCutsOnlyWhatIsTooLong) {
  for (const std::int64_t longest : {5, 30, 64, 200}) {
    const std::int64_t T = 64;
    const auto lengths = random_lengths(3, 500, longest);
    const Packing packing(lengths, T);
    std::map<std::int64_t, std::map<std::int64_t, std::int64_t>> pieces;  // document -> begin -> length
    std::int64_t tokens = 0;
    for (std::int64_t row = 0; row < packing.rows(); ++row) {
      std::int64_t used = 0;
      for (const PackedPiece& piece : packing.row(row)) {
        EXPECT_GE(piece.length, 1);
        EXPECT_TRUE(pieces[piece.document].emplace(piece.begin, piece.length).second);
        used += piece.length;
      }
      EXPECT_GE(used, 1) << "an empty row";
      EXPECT_LE(used, T);
      tokens += used;
    }
    std::int64_t all = 0, cut = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto& own = pieces[static_cast<std::int64_t>(i)];
      std::int64_t end = 0;
      for (const auto& [begin, length] : own) {
        EXPECT_EQ(begin, end) << "a gap or an overlap in document " << i;
        end = begin + length;
      }
      EXPECT_EQ(end, lengths[i]);
      EXPECT_EQ(static_cast<std::int64_t>(own.size()), (lengths[i] + T - 1) / T) << "document " << i;
      all += lengths[i];
      cut += lengths[i] > T ? 1 : 0;
    }
    EXPECT_EQ(tokens, all);
    EXPECT_EQ(packing.tokens(), all);
    EXPECT_EQ(packing.cut_documents(), cut);
    EXPECT_EQ(packing.padding(), packing.rows() * T - all);
    EXPECT_DOUBLE_EQ(packing.waste(), static_cast<double>(packing.padding()) / static_cast<double>(packing.rows() * T));
  }
}

TEST(Packing, FillsTheRowThatFitsBest) {
  // 6 leaves 4, 7 leaves 3; then 3 goes with the 7 though the 6 has room, and 4 with the 6.
  const Packing packing(std::vector<std::int64_t>{6, 3, 7, 4}, 10);
  ASSERT_EQ(packing.rows(), 2);
  EXPECT_EQ(packing.padding(), 0);
  EXPECT_EQ(std::vector(packing.row(0).begin(), packing.row(0).end()),
            (std::vector<PackedPiece>{{2, 0, 7}, {1, 0, 3}}));
  EXPECT_EQ(std::vector(packing.row(1).begin(), packing.row(1).end()),
            (std::vector<PackedPiece>{{0, 0, 6}, {3, 0, 4}}));
}

// Best-fit decreasing needs at most 11/9 of the fewest possible rows and one more (Johnson 1973), and no packing has
// fewer rows than the tokens fill.
TEST(Packing, WastesLittle) {
  const auto lengths = random_lengths(4, 3000, 700);
  const Packing packing(lengths, 1024);
  const auto fewest = static_cast<double>((packing.tokens() + 1023) / 1024);
  EXPECT_LE(static_cast<double>(packing.rows()), 11.0 / 9.0 * fewest + 1);
  EXPECT_LT(packing.waste(), 0.02);
}

TEST(Packing, OfNothingHasNoRows) {
  EXPECT_EQ(Packing({}, 8).rows(), 0);
  EXPECT_EQ(Packing(std::vector<std::int64_t>{0, 0}, 8).rows(), 0);
  EXPECT_EQ(Packing({}, 8).waste(), 0);
  EXPECT_EQ(Packing(std::vector<std::int64_t>{1}, 1).rows(), 1);
}

}  // namespace
}  // namespace krait::train
