#include "krait/train/offload_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "krait/core/random.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using tests::expect_error;
using Bytes = std::vector<std::byte>;
using Slot = OffloadFile::Slot;

constexpr std::uint64_t kPage = SizeClassPool::kPage;

void fill(std::span<std::byte> bytes, std::uint64_t seed) {
  Random random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() >> 8);
}

bool holds(std::span<const std::byte> bytes, std::uint64_t seed) {
  Random random(seed);
  return std::ranges::all_of(bytes, [&](std::byte byte) { return byte == static_cast<std::byte>(random.next() >> 8); });
}

class OffloadFileTest : public testing::Test {
 protected:
  std::unique_ptr<OffloadFile> create(std::uint64_t memory_bytes, FileEngineKind engine = FileEngineKind::kAutomatic,
                                      bool direct = true) {
    auto file = OffloadFile::create(
        {.folder = folder_.path(), .memory_bytes = memory_bytes, .engine = engine, .direct = direct});
    EXPECT_TRUE(file.has_value()) << (file ? "" : file.error().message);
    return file ? *std::move(file) : nullptr;
  }
  static Slot reserve(OffloadFile& file, std::uint64_t bytes, const std::string& name = "tensor") {
    const auto slot = file.reserve(name, bytes);
    EXPECT_TRUE(slot.has_value()) << (slot ? "" : slot.error().message);
    return slot.value_or(0);
  }
  static void write(OffloadFile& file, Slot slot, std::uint64_t seed) {
    KRAIT_ASSERT_VALUE(const auto bytes, file.acquire(slot));
    fill(bytes, seed);
    ASSERT_TRUE(file.release(slot, true).has_value());
  }
  static void expect_holds(OffloadFile& file, Slot slot, std::uint64_t seed) {
    KRAIT_ASSERT_VALUE(const auto bytes, file.acquire(slot));
    EXPECT_TRUE(holds(bytes, seed)) << "slot " << slot;
    ASSERT_TRUE(file.release(slot, false).has_value());
  }

  tests::TemporaryFolder folder_;
};

TEST_F(OffloadFileTest, HoldsWhatWasWrittenInAnyOrder) {
  for (const FileEngineKind engine : {FileEngineKind::kAutomatic, FileEngineKind::kThreads}) {
    for (const bool direct : {false, true}) {
      Random random(direct ? 1 : 2);
      constexpr std::uint64_t kMemory = 400 * kPage;
      const auto file = create(kMemory, engine, direct);
      ASSERT_NE(file, nullptr);
      std::vector<Slot> slots;
      for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1}, kPage - 1, kPage, kPage + 1}) {
        slots.push_back(reserve(*file, bytes));
      }
      while (file->file_bytes() < 4 * kMemory) slots.push_back(reserve(*file, random.next() % (100 * kPage)));
      std::vector<std::uint64_t> seeds(slots.size());  // 0: never written
      for (int round = 0; round < 300; ++round) {
        // Up to three at once, each of less than 100 pages.
        std::set<std::size_t> together;
        for (std::uint64_t i = 0; i < 1 + random.next() % 3; ++i) together.insert(random.next() % slots.size());
        for (const std::size_t i : together) {
          KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(slots[i]));
          if (seeds[i] == 0) {
            EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; })) << i;
          } else {
            ASSERT_TRUE(holds(bytes, seeds[i])) << "slot " << i << " round " << round;
          }
        }
        for (const std::size_t i : together) {
          const bool changes = random.next() % 2 == 0;
          if (changes) {
            seeds[i] = random.next() | 1;
            KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(slots[i]));  // once more, and the same bytes
            fill(bytes, seeds[i]);
            ASSERT_TRUE(file->release(slots[i], true).has_value());
          }
          ASSERT_TRUE(file->release(slots[i], false).has_value());
          if (random.next() % 3 == 0) file->prefetch(slots[random.next() % slots.size()]);
        }
        if (random.next() % 50 == 0) {
          ASSERT_TRUE(file->flush().has_value());
        }
      }
      EXPECT_LE(file->memory_use().peak_reserved, kMemory);
    }
  }
}

// Nothing is read for it; and what is announced afterwards is.
TEST_F(OffloadFileTest, WhatWillBeOverwrittenIsNotRead) {
  const auto file = create(2 * kPage);
  const Slot first = reserve(*file, kPage), second = reserve(*file, 2 * kPage);
  write(*file, first, 1);
  write(*file, second, 2);  // drops the first
  {
    KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(first, OffloadFile::Content::kOverwritten));
    fill(bytes, 3);
    ASSERT_TRUE(file->release(first, true).has_value());
  }
  expect_holds(*file, second, 2);
  file->prefetch(first);
  expect_holds(*file, first, 3);
  expect_holds(*file, second, 2);
}

TEST_F(OffloadFileTest, WhatWasNeverWrittenIsZeroInMemoryThatWasUsed) {
  const auto file = create(2 * kPage);
  const Slot first = reserve(*file, kPage), second = reserve(*file, 2 * kPage), third = reserve(*file, kPage);
  write(*file, first, 1);
  for (const Slot slot : {second, third}) {
    KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(slot));
    EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; }));
    ASSERT_TRUE(file->release(slot, false).has_value());
  }
  expect_holds(*file, first, 1);
}

TEST_F(OffloadFileTest, ReadsAheadWithoutItsCaller) {
  // More than the engine has under way at once.
  constexpr std::uint64_t kBytes = (FileEngine::kDepth + 4) * FileEngine::kPieceBytes;
  const auto file = create(3 * kBytes);
  std::vector<Slot> slots;
  for (std::uint64_t i = 0; i < 6; ++i) {
    slots.push_back(reserve(*file, kBytes));
    write(*file, slots.back(), i + 1);
  }
  ASSERT_TRUE(file->flush().has_value());
  ASSERT_FALSE(file->is_in_memory(slots[0]));
  for (std::uint64_t i = 0; i < 6; ++i) file->prefetch(slots[i]);  // the last three find no memory yet
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto wait_for = [&](Slot slot) {
    while (!file->is_in_memory(slot) && std::chrono::steady_clock::now() < deadline) ::usleep(1000);
    EXPECT_TRUE(file->is_in_memory(slot)) << slot;
  };
  for (std::uint64_t i = 0; i < 3; ++i) wait_for(slots[i]);
  for (std::uint64_t i = 0; i < 6; ++i) {
    expect_holds(*file, slots[i], i + 1);
    if (i + 3 < 6) wait_for(slots[i + 3]);  // in the memory that this one no longer needs
  }
  EXPECT_LE(file->memory_use().peak_reserved, 3 * kBytes);
}

TEST_F(OffloadFileTest, WhatIsNeededFirstPushesOutWhatIsNeededLater) {
  const auto file = create(2 * kPage);
  std::vector<Slot> slots;
  for (std::uint64_t i = 0; i < 4; ++i) {
    slots.push_back(reserve(*file, kPage));
    write(*file, slots.back(), i + 1);
  }
  ASSERT_TRUE(file->flush().has_value());
  const auto settles_to = [&](std::vector<bool> wanted) {
    std::vector<bool> found;
    for (int tries = 0; tries < 10000 && found != wanted; ++tries) {
      found.clear();
      for (const Slot slot : slots) found.push_back(file->is_in_memory(slot));
      ::usleep(1000);
    }
    EXPECT_EQ(found, wanted);
  };
  settles_to({false, false, true, true});
  for (const Slot slot : slots) file->prefetch(slot);  // the last two are there, and have to go
  settles_to({true, true, false, false});
  // Whoever waits takes the place of what was announced last, which comes back after.
  expect_holds(*file, slots[3], 4);
  settles_to({true, true, false, false});
  for (std::uint64_t i = 0; i < 4; ++i) expect_holds(*file, slots[i], i + 1);
}

TEST(OffloadModel, IsTheLargestWindow) {
  const std::vector<std::vector<std::uint64_t>> layers = {{1}, {kPage, 1}, {3 * kPage}, {kPage}, {}};
  EXPECT_EQ(predicted_peak_bytes(layers, 0, 0), 3 * kPage);
  EXPECT_EQ(predicted_peak_bytes(layers, 1, 0), 5 * kPage);
  EXPECT_EQ(predicted_peak_bytes(layers, 0, 2), 6 * kPage);
  EXPECT_EQ(predicted_peak_bytes(layers, 9, 9), 7 * kPage);
  EXPECT_EQ(predicted_peak_bytes({}, 1, 1), 0U);
}

TEST_F(OffloadFileTest, TooMuchInUseIsAnError) {
  const auto file = create(3 * kPage);
  const Slot first = reserve(*file, 2 * kPage, "first"), second = reserve(*file, 2 * kPage, "second");
  KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(first));
  fill(bytes, 1);
  expect_error(file->acquire(second), ErrorCode::kResourceExhausted, {"second", "8192 of 12288"});
  ASSERT_TRUE(file->release(first, true).has_value());
  write(*file, second, 2);
  expect_holds(*file, first, 1);
  expect_error(file->reserve("large", 4 * kPage), ErrorCode::kResourceExhausted, {"large", "16384", "12288"});
}

TEST_F(OffloadFileTest, WhatCannotBeWrittenStaysAndIsReported) {
  ASSERT_NE(::signal(SIGXFSZ, SIG_IGN), SIG_ERR);
  const auto file = create(4 * kPage);
  std::vector<Slot> slots;
  for (std::uint64_t i = 0; i < 4; ++i) slots.push_back(reserve(*file, kPage, "slot " + std::to_string(i)));
  const Slot large = reserve(*file, 4 * kPage, "large");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{kPage, before.rlim_max};  // the first slot may be written, the others not
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (std::uint64_t i = 0; i < 4; ++i) {
    KRAIT_ASSERT_VALUE(const auto bytes, file->acquire(slots[i]));
    fill(bytes, i + 1);
    static_cast<void>(file->release(slots[i], true));
  }
  const auto flushed = file->flush();
  const auto more = file->reserve("more", kPage);
  const auto full = file->acquire(large);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  expect_error(flushed, ErrorCode::kResourceExhausted, {"cannot write slot", "4096"});
  expect_error(more, ErrorCode::kResourceExhausted, {"cannot take", "36864 bytes of the disk"});
  expect_error(full, ErrorCode::kResourceExhausted, {"large", "could not be written"});

  ASSERT_TRUE(file->flush().has_value()) << "there is room again";
  write(*file, large, 9);
  for (std::uint64_t i = 0; i < 4; ++i) expect_holds(*file, slots[i], i + 1);
  expect_holds(*file, large, 9);
}

TEST_F(OffloadFileTest, WhatCannotBeReadIsAnError) {
  const auto file = create(kPage);
  const Slot first = reserve(*file, kPage, "first"), second = reserve(*file, kPage, "second");
  write(*file, first, 1);
  write(*file, second, 2);
  write(*file, first, 1);
  ASSERT_TRUE(file->flush().has_value());
  // Somebody cuts the file, which has no name, behind our back.
  int descriptor = -1;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error).string();
    if (target.find("krait-offload") == std::string::npos) continue;
    descriptor = std::stoi(entry.path().filename());
  }
  ASSERT_EQ(::ftruncate(descriptor, kPage), 0);
  file->prefetch(second);
  expect_error(file->acquire(second), ErrorCode::kInputOutput, {"cannot read second", "krait-offload"});
  expect_holds(*file, first, 1);
  ASSERT_EQ(::ftruncate(descriptor, 2 * kPage), 0);
  write(*file, second, 3);
  expect_holds(*file, first, 1);
  expect_holds(*file, second, 3);
}

TEST_F(OffloadFileTest, LeavesNothingBehind) {
  const auto file = create(kPage);
  write(*file, reserve(*file, kPage), 1);
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
  expect_error(OffloadFile::create({.folder = folder_.path() / "none", .memory_bytes = kPage}), ErrorCode::kInputOutput,
               {"cannot create", "none"});
}

TEST_F(OffloadFileTest, ThreadsMayShareIt) {
  const auto file = create(16 * kPage);
  std::vector<Slot> slots;
  for (int i = 0; i < 24; ++i) slots.push_back(reserve(*file, 2 * kPage));
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      Random random(t);
      std::vector<std::uint64_t> seeds(8);
      for (int round = 0; round < 300; ++round) {
        const std::uint64_t mine = random.next() % 8;
        const Slot slot = slots[8 * t + mine];
        const auto bytes = file->acquire(slot);
        wrong += !bytes || (seeds[mine] != 0 && !holds(*bytes, seeds[mine]));
        if (!bytes) continue;
        seeds[mine] = random.next() | 1;
        fill(*bytes, seeds[mine]);
        wrong += !file->release(slot, true);
        file->prefetch(slots[8 * t + random.next() % 8]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(file->flush().has_value());
}

}  // namespace
}  // namespace krait::train
