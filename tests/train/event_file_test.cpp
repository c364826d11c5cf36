#include "krait/train/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace krait::train {
namespace {

// CRC-32C a bit at a time, by its definition (reflected polynomial 0x82f63b78), and TFRecord's mask.
std::uint32_t masked(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffU;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8U;
}

template <class T>
T number(std::string_view bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.substr(at, sizeof(T)).data(), sizeof(T));
  return value;
}

TEST(EventFile, IsMadeOfRecordsThatAddUp) {
  const std::filesystem::path folder = std::filesystem::path(::testing::TempDir()) / "event_file_test";
  std::filesystem::remove_all(folder);
  {
    auto events = EventFile::create(folder, 1234567890.0);
    ASSERT_TRUE(events.has_value()) << events.error().message;
    events->scalar("loss", 300, 1.5, 1234567891.0);
    ASSERT_TRUE(events->flush().has_value());
  }
  std::ifstream in(folder / "events.out.tfevents.1234567890.krait", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::string> records;
  for (std::size_t at = 0; at < file.size();) {
    ASSERT_GE(file.size() - at, 16U);
    const auto length = number<std::uint64_t>(file, at);
    ASSERT_EQ(number<std::uint32_t>(file, at + 8), masked(std::string_view(file).substr(at, 8)));
    records.push_back(file.substr(at + 12, length));
    ASSERT_EQ(records.back().size(), length);
    ASSERT_EQ(number<std::uint32_t>(file, at + 12 + length), masked(records.back()));
    at += 16 + length;
  }
  ASSERT_EQ(records.size(), 2U);
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  // wall time, step 300 as a varint, then the summary: a value with a tag and four bytes of a float.
  const std::string& scalar = records[1];
  EXPECT_EQ(scalar[0], '\x09');
  EXPECT_EQ(number<double>(scalar, 1), 1234567891.0);
  EXPECT_EQ(scalar.substr(9, 3), "\x10\xac\x02");
  EXPECT_EQ(scalar.substr(12, 5), std::string("\x2a\x0d\x0a\x0b\x0a"));
  EXPECT_EQ(scalar.substr(17, 6), std::string("\x04loss\x15"));
  EXPECT_EQ(number<float>(scalar, 23), 1.5F);
  EXPECT_EQ(scalar.size(), 27U);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace krait::train
