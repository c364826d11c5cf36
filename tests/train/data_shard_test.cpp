#include "krait/train/data_shard.h"

#include <gtest/gtest.h>

#include <cstring>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/train/data_corpus.h"
#include "krait/train/data_shard_layout.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using Ids = std::vector<std::int32_t>;
constexpr Hash128 kTokenizer = {0x1234, 0x5678};

TokenShardWriter three_documents(std::int64_t vocabulary) {
  TokenShardWriter writer(vocabulary);
  const auto last = static_cast<std::int32_t>(vocabulary - 1);
  EXPECT_TRUE(writer.add(Ids{1, 2, last}));
  EXPECT_TRUE(writer.add(Ids{}));
  EXPECT_TRUE(writer.add(Ids{0, 5}));
  return writer;
}

Ids read_all(const TokenShard& shard) {
  Ids ids(static_cast<std::size_t>(shard.tokens()));
  const auto done = shard.read(0, ids);
  EXPECT_TRUE(done) << done.error().message;
  return ids;
}

// Prelude changed by `change`, with its checksum put right again: what a writer with bad intentions would do.
template <class Change>
std::vector<std::byte> with_prelude(std::vector<std::byte> bytes, Change change) {
  ShardPrelude prelude;
  std::memcpy(&prelude, bytes.data(), sizeof prelude);
  change(prelude);
  prelude.prelude_crc32c = crc32c(prelude.checked_bytes());
  std::memcpy(bytes.data(), &prelude, sizeof prelude);
  return bytes;
}

TEST(TokenShard, GivesBackWhatWasWritten) {
  for (const std::int64_t vocabulary : {7, 65536, 65537, 1 << 30}) {
    const auto bytes = three_documents(vocabulary).encode(kTokenizer, "{\"note\": 1}");
    const auto shard = TokenShard::parse(bytes, "t.ktok");
    ASSERT_TRUE(shard) << shard.error().message;
    EXPECT_EQ(shard->vocabulary(), vocabulary);
    EXPECT_EQ(shard->documents(), 3);
    EXPECT_EQ(shard->document_length(0), 3);
    EXPECT_EQ(shard->document_length(1), 0);
    EXPECT_EQ(shard->document_begin(2), 3);
    EXPECT_EQ(read_all(*shard), (Ids{1, 2, static_cast<std::int32_t>(vocabulary - 1), 0, 5}));
    EXPECT_EQ(shard->tokenizer(), kTokenizer);
    EXPECT_EQ(shard->provenance(), "{\"note\": 1}");
    EXPECT_TRUE(shard->verify());
    EXPECT_THROW(static_cast<void>(shard->document_begin(4)), InternalError);
    Ids too_many(6);
    EXPECT_THROW(static_cast<void>(shard->read(0, too_many)), InternalError);
  }
}

TEST(TokenShard, TokensTakeTwoBytesWhereTheyFit) {
  const auto narrow = three_documents(65536).encode({}, "");
  const auto wide = three_documents(65537).encode({}, "");
  ShardPrelude prelude;
  std::memcpy(&prelude, narrow.data(), sizeof prelude);
  EXPECT_EQ(prelude.token_bytes, 2U);
  std::memcpy(&prelude, wide.data(), sizeof prelude);
  EXPECT_EQ(prelude.token_bytes, 4U);
}

TEST(TokenShard, MayBeEmpty) {
  const auto shard = TokenShard::parse(TokenShardWriter(3).encode({}, ""), "t");
  ASSERT_TRUE(shard) << shard.error().message;
  EXPECT_EQ(shard->tokens(), 0);
  EXPECT_EQ(shard->documents(), 0);
}

TEST(TokenShard, WriterRefusesTokensOutsideTheVocabulary) {
  TokenShardWriter writer(5);
  EXPECT_FALSE(writer.add(Ids{1, 5}));
  EXPECT_FALSE(writer.add(Ids{-1}));
  EXPECT_EQ(writer.tokens(), 0);
  EXPECT_EQ(writer.documents(), 0);
}

TEST(TokenShard, StandsInAFile) {
  const tests::TemporaryFolder folder;
  ASSERT_TRUE(three_documents(9).write(folder.path() / "b.ktok", kTokenizer, "{}"));
  ASSERT_TRUE(three_documents(9).write(folder.path() / "a.ktok", kTokenizer, "{}"));
  const auto shard = TokenShard::open(folder.path() / "a.ktok");
  ASSERT_TRUE(shard) << shard.error().message;
  EXPECT_EQ(read_all(*shard), (Ids{1, 2, 8, 0, 5}));

  const std::filesystem::path paths[] = {folder.path(), folder.path() / "a.ktok"};
  const auto corpus = TokenCorpus::open(paths);
  ASSERT_TRUE(corpus) << corpus.error().message;
  EXPECT_EQ(corpus->documents(), 9);
  EXPECT_EQ(corpus->tokens(), 15);
  EXPECT_EQ(corpus->lengths(), (std::vector<std::int64_t>{3, 0, 2, 3, 0, 2, 3, 0, 2}));
  Ids ids(2);
  ASSERT_TRUE(corpus->read(3, 1, ids));
  EXPECT_EQ(ids, (Ids{2, 8}));

  ASSERT_TRUE(three_documents(9).write(folder.path() / "c.ktok", {1, 1}, "{}"));
  const auto mixed = TokenCorpus::open(paths);
  ASSERT_FALSE(mixed);
  EXPECT_EQ(mixed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(TokenCorpus::open({}));
}

// Damage of any one byte is found: by the prelude's checksum, a part's, or verify(). Only the zeros that fill up to a
// multiple of 64 have none.
TEST(TokenShard, FindsEveryDamagedByte) {
  const auto good = three_documents(300).encode(kTokenizer, "{\"sources\": []}");
  ShardPrelude prelude;
  std::memcpy(&prelude, good.data(), sizeof prelude);
  const ShardParts parts(prelude);
  const auto is_filling = [&](std::size_t at) {
    return (at >= parts.tokens + 5 * 2 && at < parts.borders) || (at >= parts.borders + 4 * 8 && at < parts.provenance);
  };
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto bytes = good;
    bytes[at] ^= std::byte{0x10};
    const auto shard = TokenShard::parse(bytes, "t");
    const bool found = !shard || !shard->verify();
    EXPECT_EQ(found, !is_filling(at)) << "byte " << at;
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(TokenShard::parse(std::span(good).first(size), "t")) << size << " bytes";
  }
}

TEST(TokenShard, BelievesNoNumberOfThePrelude) {
  const auto good = three_documents(300).encode(kTokenizer, "{}");
  const auto refused = [&](auto change) {
    const auto bytes = with_prelude(good, change);
    const auto shard = TokenShard::parse(bytes, "bad.ktok");
    if (shard) return std::string();
    EXPECT_NE(shard.error().message.find("bad.ktok"), std::string::npos);
    return shard.error().message;
  };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  for (const std::uint64_t number :
       {kHuge, kHuge / 2, kHuge / 4 + 1, kHuge / 8 + 2, std::uint64_t{6}, std::uint64_t{4000}}) {
    EXPECT_NE(refused([&](ShardPrelude& p) { p.tokens = number; }), "") << number;
    EXPECT_NE(refused([&](ShardPrelude& p) { p.documents = number; }), "") << number;
    EXPECT_NE(refused([&](ShardPrelude& p) { p.provenance_bytes = number; }), "") << number;
  }
  EXPECT_NE(refused([](ShardPrelude& p) { p.version = 2; }).find("version 2"), std::string::npos);
  EXPECT_NE(refused([](ShardPrelude& p) { p.endianness = 0x04030201; }).find("byte order"), std::string::npos);
  EXPECT_NE(refused([](ShardPrelude& p) { p.vocabulary = 0; }), "");
  EXPECT_NE(refused([](ShardPrelude& p) { p.vocabulary = 70000; }), "") << "more than 16 bits tell apart";
  EXPECT_NE(refused([](ShardPrelude& p) { p.token_bytes = 3; }), "");
  EXPECT_EQ(refused([](ShardPrelude&) {}), "") << "nothing changed";
  // Five tokens of four bytes end before the same multiple of 64: other bytes, which the checksum knows.
  const auto wide = with_prelude(good, [](ShardPrelude& p) { p.token_bytes = 4; });
  const auto shard = TokenShard::parse(wide, "wide");
  EXPECT_TRUE(!shard || !shard->verify());
}

TEST(TokenShard, RefusesTokensAndBordersThatMakeNoSense) {
  const auto good = three_documents(300).encode(kTokenizer, "{}");
  // Token 2 becomes 400 with a right checksum: only reading it can tell.
  auto bytes = good;
  const std::uint16_t token = 400;
  std::memcpy(bytes.data() + sizeof(ShardPrelude) + 2, &token, sizeof token);
  bytes = with_prelude(
      bytes, [&](ShardPrelude& p) { p.tokens_crc32c = crc32c(std::span(bytes).subspan(sizeof(ShardPrelude), 10)); });
  const auto shard = TokenShard::parse(bytes, "t");
  ASSERT_TRUE(shard) << shard.error().message;
  Ids ids(5);
  const auto read = shard->read(0, ids);
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("token 1 is 400"), std::string::npos) << read.error().message;
  EXPECT_FALSE(shard->verify());

  ShardPrelude prelude;
  std::memcpy(&prelude, good.data(), sizeof prelude);
  const ShardParts parts(prelude);
  for (const auto& borders : {std::array<std::uint64_t, 4>{1, 3, 3, 5},
                              {0, 3, 2, 5},
                              {0, 3, 3, 4},
                              {0, 6, 6, 6},
                              {0, 3, ~std::uint64_t{0}, 5}}) {
    auto changed = good;
    std::memcpy(changed.data() + parts.borders, borders.data(), sizeof borders);
    changed = with_prelude(changed, [&](ShardPrelude& p) {
      p.borders_crc32c = crc32c(std::span(changed).subspan(parts.borders, sizeof borders));
    });
    EXPECT_FALSE(TokenShard::parse(changed, "t"));
  }
}

}  // namespace
}  // namespace krait::train
