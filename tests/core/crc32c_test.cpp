#include "krait/core/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "krait/core/random.h"

namespace krait {
namespace {

std::uint32_t of(std::string_view text) { return crc32c(std::as_bytes(std::span(text))); }

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32c, AgreesWithTheStandard) {
  EXPECT_EQ(of(""), 0U);
  EXPECT_EQ(of("123456789"), 0xe3069283U);
  const std::vector<std::byte> zeros(32), ones(32, std::byte{0xff});
  EXPECT_EQ(crc32c(zeros), 0x8a9136aaU);
  EXPECT_EQ(crc32c(ones), 0x62a8ab43U);
  std::vector<std::byte> ascending(32);
  for (std::size_t i = 0; i < ascending.size(); ++i) ascending[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc32c(ascending), 0x46dd794eU);
}

// Bit by bit, from the polynomial.
std::uint32_t slowly(std::span<const std::byte> bytes) {
  std::uint32_t crc = ~0U;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

TEST(Crc32c, AnyLengthAnyCut) {
  Random random(5);
  std::vector<std::byte> bytes(100);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  const std::span<const std::byte> all(bytes);
  for (std::size_t length = 0; length <= all.size(); ++length) {
    const std::uint32_t whole = crc32c(all.first(length));
    ASSERT_EQ(whole, slowly(all.first(length))) << length;
    const std::size_t cut = random.next() % (length + 1);
    EXPECT_EQ(crc32c(all.subspan(cut, length - cut), crc32c(all.first(cut))), whole);
  }
}

}  // namespace
}  // namespace krait
