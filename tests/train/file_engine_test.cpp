#include "krait/train/file_engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "krait/core/random.h"
#include "krait/train/direct_file.h"
#include "krait/train/size_class_pool.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Bytes bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

class FileEngineOfKind : public testing::TestWithParam<FileEngineKind> {
 protected:
  void SetUp() override {
    auto made = FileEngine::create(GetParam());
    if (!made && made.error().code == ErrorCode::kUnsupported) GTEST_SKIP() << made.error().message;
    ASSERT_TRUE(made.has_value()) << made.error().message;
    engine_ = *std::move(made);
  }
  std::unique_ptr<FileEngine> engine_;
  tests::TemporaryFolder folder_;
};

TEST_P(FileEngineOfKind, LengthsRoundThePieceComeBackAsTheyWere) {
  KRAIT_ASSERT_VALUE(const DirectFile file, DirectFile::create(folder_.path() / "f", false));
  constexpr std::size_t kPiece = FileEngine::kPieceBytes;
  const std::size_t lengths[] = {0, 1, kPiece - 1, kPiece, kPiece + 1, (FileEngine::kDepth + 2) * kPiece + 3};
  std::vector<Bytes> written;
  std::vector<std::uint64_t> offsets;
  std::vector<FileEngine::Transfer> transfers;
  std::uint64_t offset = 5;
  for (const std::size_t length : lengths) {
    written.push_back(random_bytes(length, length));
    offsets.push_back(offset);
    offset += length + 3;
  }
  for (std::size_t i = 0; i < written.size(); ++i) {
    transfers.push_back(engine_->write(file.descriptor(), offsets[i], written[i]));
  }
  // Waited for in another order than they were begun in.
  for (std::size_t i = transfers.size(); i-- > 0;) EXPECT_EQ(engine_->wait(transfers[i]), 0) << lengths[i];
  std::vector<Bytes> read;
  transfers.clear();
  for (const std::size_t length : lengths) read.emplace_back(length);
  for (std::size_t i = 0; i < read.size(); ++i) {
    transfers.push_back(engine_->read(file.descriptor(), offsets[i], read[i]));
  }
  for (std::size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(engine_->wait(transfers[i]), 0);
    EXPECT_EQ(read[i], written[i]) << lengths[i];
  }
}

TEST_P(FileEngineOfKind, FinishesWhileNobodyWaits) {
  KRAIT_ASSERT_VALUE(const DirectFile file, DirectFile::create(folder_.path() / "f", false));
  const Bytes bytes = random_bytes(3 * FileEngine::kPieceBytes, 1);
  const auto transfer = engine_->write(file.descriptor(), 0, bytes);
  while (!engine_->finished(transfer)) ::usleep(100);
  EXPECT_EQ(engine_->wait(transfer), 0);
  EXPECT_EQ(std::filesystem::file_size(folder_.path() / "f"), bytes.size());
}

TEST_P(FileEngineOfKind, ErrorsAreTheSystems) {
  const Bytes bytes = random_bytes(20 * FileEngine::kPieceBytes, 2);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  const auto first = engine_->write(full, 0, bytes);
  const auto second = engine_->write(-1, 0, std::span(bytes).first(100));
  EXPECT_EQ(engine_->wait(second), EBADF);
  EXPECT_EQ(engine_->wait(first), ENOSPC);
  ::close(full);

  KRAIT_ASSERT_VALUE(const DirectFile file, DirectFile::create(folder_.path() / "f", false));
  EXPECT_EQ(engine_->wait(engine_->write(file.descriptor(), 0, std::span(bytes).first(100))), 0);
  Bytes more(101);
  EXPECT_EQ(engine_->wait(engine_->read(file.descriptor(), 0, more)), ENODATA) << "the file ends before";
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + 100, more.begin()));
}

TEST_P(FileEngineOfKind, MemoryThatIsNotAlignedGoesThroughTheSystems) {
  KRAIT_ASSERT_VALUE(const DirectFile file, DirectFile::create(folder_.path() / "f", true));
  if (!file.direct()) GTEST_SKIP() << "no O_DIRECT in " << folder_.path();
  const Bytes bytes = random_bytes(2 * FileEngine::kPieceBytes + 777, 3);
  EXPECT_EQ(engine_->wait(engine_->write(file.descriptor(), 13, bytes)), 0);
  Bytes read(bytes.size());
  EXPECT_EQ(engine_->wait(engine_->read(file.descriptor(), 13, read)), 0);
  EXPECT_EQ(read, bytes);
}

TEST_P(FileEngineOfKind, WholePagesGoPastTheSystemsMemory) {
  KRAIT_ASSERT_VALUE(DirectFile file, DirectFile::create(folder_.path() / "f", true));
  if (!file.direct()) GTEST_SKIP() << "no O_DIRECT in " << folder_.path();
  SizeClassPool memory;
  KRAIT_ASSERT_VALUE(const PoolBlock block, memory.take(5 * DirectFile::kPage + FileEngine::kPieceBytes - 1));
  const Bytes bytes = random_bytes(block.pages().size(), 4);
  std::ranges::copy(bytes, block.pages().begin());
  ASSERT_TRUE(file.allocate(block.pages().size() + DirectFile::kPage).has_value());
  EXPECT_EQ(engine_->wait(engine_->write(file.descriptor(), DirectFile::kPage, block.pages())), 0);
  EXPECT_NE(::fcntl(file.descriptor(), F_GETFL) & O_DIRECT, 0) << "the system took every piece as it was";
  std::ranges::fill(block.pages(), std::byte{0});
  EXPECT_EQ(engine_->wait(engine_->read(file.descriptor(), DirectFile::kPage, block.pages())), 0);
  EXPECT_TRUE(std::ranges::equal(block.pages(), bytes));
}

TEST_P(FileEngineOfKind, WhatIsUnderWayEndsBeforeTheEngine) {
  KRAIT_ASSERT_VALUE(const DirectFile file, DirectFile::create(folder_.path() / "f", false));
  {
    const Bytes bytes = random_bytes(16 * FileEngine::kPieceBytes, 5);
    engine_->write(file.descriptor(), 0, bytes);
    engine_.reset();
  }  // the memory is gone; a piece under way would read it
  SUCCEED();
}

INSTANTIATE_TEST_SUITE_P(Kinds, FileEngineOfKind, testing::Values(FileEngineKind::kUring, FileEngineKind::kThreads),
                         [](const auto& kind) { return kind.param == FileEngineKind::kUring ? "uring" : "threads"; });

TEST(FileEngine, ThereIsAlwaysOne) {
  KRAIT_ASSERT_VALUE(const auto engine, FileEngine::create());
  const auto ring = FileEngine::create(FileEngineKind::kUring);
  EXPECT_EQ(engine->name(), ring ? "io_uring" : "threads");
}

TEST(DirectFile, SaysWhatIsWrong) {
  const tests::TemporaryFolder folder;
  folder.write("there", "x");
  tests::expect_error(DirectFile::create(folder.path() / "there", true), ErrorCode::kInputOutput,
                      {"cannot create", "there"});
  tests::expect_error(DirectFile::create(folder.path() / "none" / "f", true), ErrorCode::kInputOutput, {"none"});
  tests::expect_error(sync_folder(folder.path() / "none"), ErrorCode::kInputOutput, {"cannot open the folder", "none"});
}

}  // namespace
}  // namespace krait::train
