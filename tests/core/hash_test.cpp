#include "krait/core/hash.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>
#include <vector>

namespace krait {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// The published value of XXH3_128bits for no input.
TEST(Hash, IsXxh3) { EXPECT_EQ(hash128({}).hex(), "99aa06d3014798d86001c324468d497f"); }

TEST(Hash, PiecesGiveTheHashOfTheWhole) {
  const std::string_view text = "the state of a sequence is a small thing of fixed size";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Hasher hasher;
    hasher.feed(bytes_of(text.substr(0, cut)));
    hasher.feed(bytes_of(text.substr(cut)));
    EXPECT_EQ(hasher.value(), hash128(bytes_of(text)));
  }
}

TEST(Hash, TextsKeepTheirBoundaries) {
  Hasher left, right;
  left.feed_text("ab");
  left.feed_text("c");
  right.feed_text("a");
  right.feed_text("bc");
  EXPECT_NE(left.value(), right.value());
}

TEST(Hash, HexIsReadBack) {
  const Hash128 hash{0x0123456789abcdefULL, 0xfedcba9876543210ULL};
  EXPECT_EQ(hash.hex(), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(Hash128::parse(hash.hex()), hash);
  for (const char* wrong : {"", "0123", "0123456789abcdeffedcba987654321", "0123456789abcdeffedcba98765432100",
                            "g123456789abcdeffedcba9876543210", "-123456789abcdeffedcba9876543210"}) {
    EXPECT_FALSE(Hash128::parse(wrong)) << wrong;
  }
}

TEST(PrefixHash, DoesNotDependOnTheCut) {
  const std::array<std::int32_t, 6> tokens = {5, 0, 0, 7, 123456, 5};
  const std::span<const std::int32_t> all(tokens);
  const Hash128 whole = extend_prefix({}, all);
  for (std::size_t cut = 0; cut <= all.size(); ++cut) {
    EXPECT_EQ(extend_prefix(extend_prefix({}, all.first(cut)), all.subspan(cut)), whole);
  }
  EXPECT_EQ(extend_prefix({}, {}), Hash128{});
  std::array<std::int32_t, 6> other = tokens;
  std::swap(other[2], other[3]);
  EXPECT_NE(extend_prefix({}, other), whole);
}

}  // namespace
}  // namespace krait
