#include "krait/formats/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/formats/byte_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

using tests::bytes_of;
using tests::expect_error;

tests::Bytes copy(const MappedFile& file) { return {file.bytes().begin(), file.bytes().end()}; }

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  const tests::TemporaryFolder folder;
  const auto path = folder.write("a.bin", "hello");
  KRAIT_ASSERT_VALUE(const MappedFile file, MappedFile::open(path));
  EXPECT_EQ(copy(file), bytes_of("hello"));
  EXPECT_EQ(file.name(), path.string());
}

TEST(MappedFile, OutlivesTheNameOfTheFile) {
  const tests::TemporaryFolder folder;
  const auto path = folder.write("a.bin", "hello");
  KRAIT_ASSERT_VALUE(const MappedFile file, MappedFile::open(path));
  std::filesystem::remove(path);
  EXPECT_EQ(copy(file), bytes_of("hello"));
}

TEST(MappedFile, MovesWithoutMovingTheBytes) {
  const tests::TemporaryFolder folder;
  KRAIT_ASSERT_VALUE(MappedFile first, MappedFile::open(folder.write("a.bin", "first")));
  KRAIT_ASSERT_VALUE(MappedFile second, MappedFile::open(folder.write("b.bin", "second")));
  const std::byte* address = first.bytes().data();
  second = std::move(first);
  EXPECT_EQ(second.bytes().data(), address);
  EXPECT_EQ(copy(second), bytes_of("first"));
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move): the state after a move is what is tested
  const MappedFile third(std::move(second));
  EXPECT_EQ(copy(third), bytes_of("first"));
}

TEST(MappedFile, SaysWhyItCannotOpen) {
  const tests::TemporaryFolder folder;
  expect_error(MappedFile::open(folder.path() / "absent.bin"), ErrorCode::kNotFound, {"absent.bin", "No such file"});
  expect_error(MappedFile::open(folder.path()), ErrorCode::kInvalidArgument, {"directory", folder.path().string()});
  expect_error(MappedFile::open(folder.write("empty.bin", "")), ErrorCode::kCorrupt, {"empty", "empty.bin"});
}

TEST(MappedFile, DoesNotWaitForAPipe) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  expect_error(MappedFile::open(path), ErrorCode::kUnsupported, {"not a regular file", "pipe"});
}

}  // namespace
}  // namespace krait::formats
