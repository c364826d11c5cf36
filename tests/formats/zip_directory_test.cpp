#include "krait/formats/zip_directory.h"

#include <gtest/gtest.h>

#include "tests/formats/error_expectation.h"
#include "tests/formats/torch_archive_writer.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::bytes_of;
using tests::expect_error;
using tests::zip_of;

std::vector<tests::ZipMember> members() {
  return {{"m/a", bytes_of("alpha")}, {"m/empty", {}}, {"m/b", bytes_of("beta")}};
}

void expect_members(const Bytes& file) {
  KRAIT_ASSERT_VALUE(const auto entries, parse_zip_directory(file, "z"));
  ASSERT_EQ(entries.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(entries[i].name, members()[i].name);
    EXPECT_EQ(Bytes(entries[i].bytes.begin(), entries[i].bytes.end()), members()[i].data);
  }
}

TEST(ZipDirectory, ListsStoredEntries) { expect_members(zip_of(members())); }

TEST(ZipDirectory, ReadsZip64) { expect_members(zip_of(members(), true)); }

TEST(ZipDirectory, FindsItsEndBeforeAComment) {
  expect_members(zip_of(members(), false, "a comment"));
  expect_members(zip_of(members(), true, std::string(65535, 'c')));
}

TEST(ZipDirectory, RefusesFilesCutShortAnywhere) {
  for (const bool zip64 : {false, true}) {
    const Bytes file = zip_of(members(), zip64);
    for (std::size_t length = 0; length < file.size(); ++length) {
      const Bytes part = tests::first_bytes(file, length);
      expect_error(parse_zip_directory(part, "z.bin"), ErrorCode::kCorrupt, {"[zip]", "z.bin"});
    }
  }
}

TEST(ZipDirectory, SurvivesEveryFlippedBit) {
  for (const bool zip64 : {false, true}) {
    const Bytes file = zip_of(members(), zip64);
    for (std::size_t i = 0; i < file.size() * 8; ++i) {
      Bytes flipped = file;
      flipped[i / 8] ^= std::byte{1} << (i % 8);
      const auto entries = parse_zip_directory(flipped, "z.bin");
      if (!entries) {
        EXPECT_NE(entries.error().message.find("z.bin"), std::string::npos);
        continue;
      }
      for (const ZipEntry& entry : *entries) {
        if (entry.bytes.empty()) continue;
        EXPECT_GE(entry.bytes.data(), flipped.data());
        EXPECT_LE(entry.bytes.data() + entry.bytes.size(), flipped.data() + flipped.size());
      }
    }
  }
}

TEST(ZipDirectory, RefusesCompressedAndEncryptedEntries) {
  auto compressed = members();
  compressed[2].method = 8;
  expect_error(parse_zip_directory(zip_of(compressed), "z"), ErrorCode::kUnsupported,
               {"\"m/b\"", "compressed", "method 8", "torch.save"});
  auto encrypted = members();
  encrypted[0].flags = 1;
  expect_error(parse_zip_directory(zip_of(encrypted), "z"), ErrorCode::kUnsupported, {"\"m/a\"", "encrypted"});
}

TEST(ZipDirectory, RefusesDoubledNames) {
  auto doubled = members();
  doubled[2].name = "m/a";
  expect_error(parse_zip_directory(zip_of(doubled), "z"), ErrorCode::kCorrupt, {"\"m/a\" is there twice"});
}

TEST(ZipDirectory, RefusesAnAbsurdNumberOfEntries) {
  Bytes file = zip_of(members(), true);
  const std::size_t end64 = file.size() - 22 - 20 - 56;
  for (std::size_t i = 0; i < 8; ++i) file[end64 + 32 + i] = std::byte{0xff};
  expect_error(parse_zip_directory(file, "z"), ErrorCode::kCorrupt, {"18446744073709551615 entries"});
}

TEST(ZipDirectory, RefusesDataThatReachesIntoTheDirectory) {
  Bytes file = zip_of({{"m/a", bytes_of("alpha")}});
  const std::size_t directory = file.size() - 22 - 46 - 3;
  file[directory + 20] = file[directory + 24] = std::byte{6};  // both sizes: one byte more than there is
  expect_error(parse_zip_directory(file, "z"), ErrorCode::kCorrupt, {"\"m/a\" of 6 bytes", "ends past"});
}

TEST(ZipDirectory, RefusesAnEntryWithAnotherNameInItsOwnHeader) {
  Bytes file = zip_of(members());
  file[30] = std::byte{'x'};
  expect_error(parse_zip_directory(file, "z"), ErrorCode::kCorrupt, {"\"m/a\"", "\"x/a\""});
}

}  // namespace
}  // namespace krait::formats
