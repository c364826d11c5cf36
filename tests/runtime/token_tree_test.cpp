#include "krait/runtime/token_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "krait/core/check.h"

namespace krait::runtime {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(TokenTree, AnEmptyTreeAgreesWithNothing) {
  const TokenTree tree;
  EXPECT_EQ(tree.walk(Tokens{1, 2}).agreed, 0);
  EXPECT_TRUE(tree.walk(Tokens{}).places.empty());
  EXPECT_FALSE(tree.find(Tokens{}));
}

TEST(TokenTree, AValueInTheMiddleOfAnEdgeStandsAtItsExactPosition) {
  TokenTree tree;
  const auto deep = tree.put(Tokens{1, 2, 3, 4, 5}, 10);
  tree.put(Tokens{1, 2, 3}, 20);
  const auto walk = tree.walk(Tokens{1, 2, 3, 4, 9});
  EXPECT_EQ(walk.agreed, 4);
  ASSERT_EQ(walk.places.size(), 1U);
  EXPECT_EQ(walk.places[0].position, 3);
  EXPECT_EQ(walk.places[0].value, 20U);
  EXPECT_EQ(tree.above(deep)->value, 20U);
  EXPECT_EQ(tree.path(deep), (Tokens{1, 2, 3, 4, 5}));
  EXPECT_EQ(tree.tokens(), 5);
}

TEST(TokenTree, SharedTokensAreStoredOnceAndGoWithTheLastPath) {
  TokenTree tree;
  Tokens left(1000, 7);
  Tokens right = left;
  left.push_back(1);
  right.push_back(2);
  const auto a = tree.put(left, 1);
  const auto b = tree.put(right, 2);
  EXPECT_EQ(tree.tokens(), 1002);
  EXPECT_EQ(tree.nodes(), 4U);  // the root, the branch and two leaves
  tree.remove(a);
  EXPECT_EQ(tree.tokens(), 1001);
  EXPECT_EQ(tree.nodes(), 2U);  // merged
  EXPECT_EQ(tree.path(b), right);
  tree.remove(b);
  EXPECT_EQ(tree.tokens(), 0);
  EXPECT_EQ(tree.nodes(), 1U);
}

TEST(TokenTree, RefusesASecondValueAtAPlaceAndNoneAtAll) {
  TokenTree tree;
  tree.put(Tokens{1}, 1);
  EXPECT_THROW(tree.put(Tokens{1}, 2), InternalError);
  EXPECT_THROW(tree.put(Tokens{}, 2), InternalError);
  EXPECT_THROW(tree.put(Tokens{2}, 0), InternalError);
}

// A few letters and short words, so that splits, merges and prefixes of prefixes happen all the time; negative tokens
// and large ones too.
Tokens random_tokens(std::mt19937& random) {
  constexpr std::int32_t kLetters[] = {-1, 0, 7, 1 << 30};
  Tokens tokens(1 + random() % 9);
  for (auto& token : tokens) token = kLetters[random() % (1 + random() % 4)];
  return tokens;
}

std::int64_t common(const Tokens& a, const Tokens& b) { return std::ranges::mismatch(a, b).in1 - a.begin(); }

TEST(TokenTree, AgreesWithAMapUnderRandomOperations) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    TokenTree tree;
    std::map<Tokens, TokenTree::Value> map;
    std::map<Tokens, TokenTree::NodeId> nodes;
    for (TokenTree::Value step = 1; step <= 300; ++step) {
      const Tokens tokens = random_tokens(random);
      if (random() % (seed % 2 == 0 ? 2 : 3) == 0) {  // half of the seeds grow, the others hover near empty
        const auto victim = map.lower_bound(tokens);
        if (victim != map.end()) {
          tree.remove(nodes.at(victim->first));
          nodes.erase(victim->first);
          map.erase(victim);
        }
      } else if (!map.contains(tokens)) {
        ASSERT_FALSE(tree.find(tokens));
        nodes[tokens] = tree.put(tokens, step);
        map[tokens] = step;
      }
      const Tokens query = random_tokens(random);
      std::int64_t agreed = 0;
      std::map<std::int64_t, TokenTree::Value> expected;
      std::set<Tokens> prefixes;
      for (const auto& [key, value] : map) {
        const auto length = common(key, query);
        agreed = std::max(agreed, length);
        if (length == std::ssize(key)) expected[length] = value;
        for (std::size_t n = 1; n <= key.size(); ++n) prefixes.emplace(key.begin(), key.begin() + static_cast<int>(n));
      }
      const auto walk = tree.walk(query);
      ASSERT_EQ(walk.agreed, agreed);
      std::map<std::int64_t, TokenTree::Value> places;
      for (const auto& place : walk.places) places[place.position] = place.value;
      ASSERT_EQ(places, expected);
      ASSERT_TRUE(std::ranges::is_sorted(walk.places, {}, &TokenTree::Place::position));
      ASSERT_EQ(tree.size(), map.size());
      ASSERT_EQ(tree.tokens(), std::ssize(prefixes));  // one token for each distinct prefix
      ASSERT_LE(tree.nodes(), 2 * map.size() + 1);     // each inner node has a value or two children
      for (const auto& [key, node] : nodes) {
        ASSERT_EQ(tree.path(node), key);
        const auto above = tree.above(node);
        std::int64_t longest = 0;
        for (const auto& [other, value] : map)
          if (other.size() < key.size() && common(other, key) == std::ssize(other))
            longest = std::max(longest, std::ssize(other));
        ASSERT_EQ(above ? above->position : 0, longest);
      }
    }
  }
}

TEST(TokenTree, AWalkVisitsNodesOfItsPathOnly) {
  TokenTree tree;
  for (std::int32_t i = 0; i < 20000; ++i) tree.put(Tokens{5, 5, 5, i, i, i}, static_cast<std::uint64_t>(i) + 1);
  const auto before = tree.visits();
  EXPECT_EQ(tree.walk(Tokens{5, 5, 5, 777, 777, 777, 1}).agreed, 6);
  EXPECT_EQ(tree.visits() - before, 3U);  // the root, the branch and the leaf, of 20,000
}

}  // namespace
}  // namespace krait::runtime
