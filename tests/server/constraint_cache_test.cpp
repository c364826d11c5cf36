#include "krait/server/constraint_cache.h"

#include <gtest/gtest.h>

#include <memory>

#include "krait/formats/json_schema.h"

namespace krait::server {
namespace {

// 256 bytes, then an end.
class ByteTokenizer final : public formats::Tokenizer {
 public:
  std::string_view kind() const override { return "bytes"; }
  std::int64_t size() const override { return 257; }
  std::vector<TokenId> encode(std::string_view text) const override { return {text.begin(), text.end()}; }
  std::unique_ptr<formats::TokenEncoder> encoder() const override { return nullptr; }
  std::string decode(std::span<const TokenId> ids, bool) const override { return {ids.begin(), ids.end()}; }
  std::string_view token_bytes(TokenId id) const override { return bytes_[static_cast<std::size_t>(id)]; }
  std::string_view start_drop() const override { return {}; }
  std::optional<TokenId> token_to_id(std::string_view) const override { return std::nullopt; }
  std::string id_to_token(TokenId id) const override { return std::string(token_bytes(id)); }
  bool is_special(TokenId id) const override { return id == 256; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  std::optional<TokenId> eos() const override { return 256; }
  bool adds_bos() const override { return false; }

 private:
  std::vector<std::string> bytes_ = [] {
    std::vector<std::string> bytes(257);
    for (std::size_t i = 0; i < 256; ++i) bytes[i] = std::string(1, static_cast<char>(i));
    return bytes;
  }();
};

class ConstraintCacheTest : public testing::Test {
 protected:
  Result<std::shared_ptr<const runtime::Constraint>> get(ConstraintCache& cache, const std::string& schema) {
    return cache.get(schema, [&] { return formats::grammar_of_json_schema(schema, {}); });
  }
  ByteTokenizer tokenizer_;
};

TEST_F(ConstraintCacheTest, AGrammarIsCompiledOnceAndTheOldestGoes) {
  ConstraintCache cache(tokenizer_, 257, {256}, 2);
  const auto one = get(cache, R"({"const": 1})");
  ASSERT_TRUE(one);
  EXPECT_EQ(*get(cache, R"({"const": 1})"), *one);
  EXPECT_EQ(cache.totals().compiled, 1u);
  ASSERT_TRUE(get(cache, R"({"const": 2})"));
  EXPECT_EQ(*get(cache, R"({"const": 1})"), *one);
  ASSERT_TRUE(get(cache, R"({"const": 3})"));  // in the place of 2, which was used longest ago
  EXPECT_EQ(cache.totals().constraints, 2u);
  EXPECT_EQ(*get(cache, R"({"const": 1})"), *one);
  EXPECT_EQ(cache.totals().compiled, 3u);
  ASSERT_TRUE(get(cache, R"({"const": 2})"));
  EXPECT_EQ(cache.totals().compiled, 4u);
}

TEST_F(ConstraintCacheTest, WhatCannotBeCompiledIsToldEveryTime) {
  ConstraintCache cache(tokenizer_, 257, {256});
  for (int i = 0; i < 2; ++i) {
    const auto refused = get(cache, R"({"type": "array", "uniqueItems": true})");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("uniqueItems"), std::string::npos);
  }
  EXPECT_EQ(cache.totals().constraints, 0u);
}

TEST_F(ConstraintCacheTest, AMaskEndsWhereNothingMayFollow) {
  ConstraintCache cache(tokenizer_, 257, {256});
  const auto mask = mask_of(*get(cache, R"({"const": 12})"));
  std::vector<std::uint64_t> bits(5);
  mask->allowed(bits);
  EXPECT_EQ(bits, (std::vector<std::uint64_t>{std::uint64_t{1} << '1', 0, 0, 0, 0}));
  EXPECT_FALSE(mask->accept('2'));
  EXPECT_TRUE(mask->accept('1'));
  EXPECT_FALSE(mask->finished());
  EXPECT_TRUE(mask->accept('2'));
  EXPECT_TRUE(mask->finished());
}

}  // namespace
}  // namespace krait::server
