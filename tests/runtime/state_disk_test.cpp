#include "krait/runtime/state_disk.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <set>

#include "krait/core/check.h"
#include "krait/core/random.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::runtime {
namespace {

using formats::TokenId;
using tests::expect_error;
using tests::TemporaryFolder;

constexpr Hash128 kOwner{7, 8};
constexpr std::uint64_t kPlenty = std::uint64_t{1} << 30;

struct Example {
  std::vector<TokenId> tokens;
  Hash128 prefix;
  std::vector<std::byte> object;
};

// Random bytes, which nothing can compress.
Example example(std::uint64_t seed, std::size_t bytes) {
  Random random(seed);
  Example made;
  for (int i = 0; i < 10; ++i) made.tokens.push_back(static_cast<TokenId>(random.next() % 1000));
  made.prefix = extend_prefix({}, made.tokens);
  made.object.resize(bytes);
  for (std::byte& byte : made.object) byte = static_cast<std::byte>(random.next());
  return made;
}

Result<void> write(StateDisk& disk, const Example& what, std::uint64_t last = 1) {
  return disk.write(what.prefix, what.tokens, {.last = last, .hits = 2, .kind = 3}, 12345, what.object);
}

std::uint64_t bytes_in(const std::filesystem::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) bytes += file.file_size();
  return bytes;
}

TEST(StateDisk, GivesBackWhatWasWrittenAndAfterARestart) {
  const TemporaryFolder folder;
  // One that goes into blob files in three parts, and small ones that do not.
  const Example large = example(1, (std::size_t{9} << 20) + 17);
  const Example small = example(2, 100);
  const Example nothing = example(3, 0);
  for (const bool first : {true, false}) {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
    if (first) {
      std::uint64_t last = 30;
      for (const Example* one : {&large, &small, &nothing}) {
        const auto written = write(*disk, *one, last--);
        ASSERT_TRUE(written.has_value()) << written.error().message;
      }
      EXPECT_TRUE(disk->take_records().empty());
    } else {
      const auto records = disk->take_records();
      ASSERT_EQ(records.size(), 3U);
      EXPECT_EQ(records[0].prefix, nothing.prefix);  // the longest unused
      EXPECT_EQ(records[2].prefix, large.prefix);
      EXPECT_EQ(records[2].tokens, large.tokens);
      EXPECT_EQ(records[2].memory_bytes, 12345U);
      EXPECT_EQ(records[2].object_bytes, large.object.size());
      EXPECT_EQ(records[2].use.last, 30U);
      EXPECT_EQ(records[2].use.hits, 2U);
      EXPECT_EQ(records[2].use.kind, 3U);
    }
    for (const Example* one : {&large, &small, &nothing}) {
      KRAIT_ASSERT_VALUE(const auto object, disk->read(one->prefix));
      EXPECT_EQ(object, one->object);
    }
    EXPECT_GE(disk->stored_bytes(), large.object.size() + small.object.size());
    expect_error(disk->read({1, 1}), ErrorCode::kNotFound, {"no state 0000000000000001"});
  }
}

TEST(StateDisk, RemovedIsGoneAndItsPlaceIsTakenBack) {
  const TemporaryFolder folder;
  constexpr std::size_t kObject = std::size_t{10} << 20;
  const auto budget = 4 * kObject;
  KRAIT_ASSERT_VALUE(auto disk, StateDisk::open(folder.path(), kOwner, budget));
  // Ten times the budget goes through.
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto written = write(*disk, example(seed, kObject));
    ASSERT_TRUE(written.has_value()) << seed << ": " << written.error().message;
    if (seed >= 2) {
      ASSERT_TRUE(disk->remove(example(seed - 2, 0).prefix).has_value());
    }
  }
  EXPECT_FALSE(disk->read(example(30, 0).prefix).has_value());
  KRAIT_ASSERT_VALUE(const auto kept, disk->read(example(39, 0).prefix));
  EXPECT_EQ(kept, example(39, kObject).object);
  // What is stored, what waits to be taken back (64 MiB and one object), and the log (64 MiB).
  EXPECT_LE(bytes_in(folder.path()), budget + 2 * (std::size_t{64} << 20) + 2 * kObject);
  disk.reset();
  KRAIT_ASSERT_VALUE(disk, StateDisk::open(folder.path(), kOwner, budget));
  EXPECT_EQ(disk->take_records().size(), 2U);
}

TEST(StateDisk, TheBudgetIsKept) {
  const TemporaryFolder folder;
  KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, 10000));
  ASSERT_TRUE(write(*disk, example(1, 6000)).has_value());
  expect_error(write(*disk, example(2, 6000)), ErrorCode::kResourceExhausted, {"do not fit", "10000"});
  ASSERT_TRUE(write(*disk, example(1, 6000)).has_value()) << "it is there already";
  ASSERT_TRUE(disk->remove(example(1, 0).prefix).has_value());
  EXPECT_EQ(disk->stored_bytes(), 0U);
  EXPECT_TRUE(write(*disk, example(2, 6000)).has_value());
}

TEST(StateDisk, ASecondOneInTheSameFolderIsRefused) {
  const TemporaryFolder folder;
  KRAIT_ASSERT_VALUE(auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
  expect_error(StateDisk::open(folder.path(), kOwner, kPlenty), ErrorCode::kResourceExhausted,
               {"another process", folder.path().string()});
  disk.reset();
  EXPECT_TRUE(StateDisk::open(folder.path(), kOwner, kPlenty).has_value());
}

TEST(StateDisk, OthersKeepTheirStatesInHalfTheBudget) {
  const TemporaryFolder folder;
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), {1, 1}, kPlenty));
    for (std::uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(write(*disk, example(seed, 1000), 100 - seed));
  }
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, 10000));
    EXPECT_TRUE(disk->take_records().empty());
    EXPECT_EQ(disk->strangers().size(), 4U);
    EXPECT_EQ(disk->strangers()[0].position, 10);
    EXPECT_FALSE(disk->read(example(1, 0).prefix).has_value());
    // The same tokens, another model.
    ASSERT_TRUE(write(*disk, example(1, 50)));
  }
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, 5000));
    EXPECT_EQ(disk->take_records().size(), 1U);
    EXPECT_EQ(disk->strangers().size(), 2U);
    EXPECT_LE(disk->bytes_of_strangers(), 2500U);
  }
  KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), {1, 1}, kPlenty));
  const auto records = disk->take_records();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].prefix, example(1, 0).prefix);  // the last two used
  KRAIT_ASSERT_VALUE(const auto object, disk->read(example(1, 0).prefix));
  EXPECT_EQ(object, example(1, 1000).object);
}

TEST(StateDisk, UseIsWrittenDown) {
  const TemporaryFolder folder;
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
    ASSERT_TRUE(write(*disk, example(1, 10), 1));
    ASSERT_TRUE(write(*disk, example(2, 10), 2));
    ASSERT_TRUE(disk->note_use(example(1, 0).prefix, {.last = 3, .hits = 9, .kind = 1}));
  }
  KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
  const auto records = disk->take_records();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].prefix, example(1, 0).prefix);
  EXPECT_EQ(records[1].use.hits, 9U);
}

TEST(StateDisk, AFolderOfSomethingElseIsRefused) {
  const TemporaryFolder folder;
  folder.write("file", std::string_view("x"));
  expect_error(StateDisk::open(folder.path() / "file", kOwner, kPlenty), ErrorCode::kInputOutput, {"file"});
}

// While it lives, no file of this process grows beyond `bytes`.
class FilesMayNotGrow {
 public:
  explicit FilesMayNotGrow(rlim_t bytes) : former_handler_(::signal(SIGXFSZ, SIG_IGN)) {
    KRAIT_CHECK(::getrlimit(RLIMIT_FSIZE, &former_) == 0, "getrlimit: errno {}", errno);
    const rlimit small{bytes, former_.rlim_max};
    KRAIT_CHECK(::setrlimit(RLIMIT_FSIZE, &small) == 0, "setrlimit: errno {}", errno);
  }
  ~FilesMayNotGrow() {
    ::setrlimit(RLIMIT_FSIZE, &former_);
    ::signal(SIGXFSZ, former_handler_);
  }
  FilesMayNotGrow(const FilesMayNotGrow&) = delete;
  FilesMayNotGrow& operator=(const FilesMayNotGrow&) = delete;

 private:
  rlimit former_{};
  sighandler_t former_handler_;
};

// The cause gone, everything goes on, and nothing of the failed write is left.
TEST(StateDisk, ADiskThatRefusesIsAnErrorAndNoMore) {
  const TemporaryFolder folder;
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
    ASSERT_TRUE(write(*disk, example(1, 100000)));
    {
      const FilesMayNotGrow limit(1 << 20);
      const auto refused = write(*disk, example(2, 6 << 20));
      ASSERT_FALSE(refused);
      EXPECT_TRUE(refused.error().code == ErrorCode::kInputOutput ||
                  refused.error().code == ErrorCode::kResourceExhausted)
          << refused.error().message;
      KRAIT_ASSERT_VALUE(const auto still, disk->read(example(1, 0).prefix));
      EXPECT_EQ(still, example(1, 100000).object);
    }
    Result<void> written;
    for (int attempt = 0; attempt < 50; ++attempt) {
      written = write(*disk, example(3, 6 << 20));
      if (written) break;
      ::usleep(100000);
    }
    ASSERT_TRUE(written) << written.error().message;
  }
  KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(folder.path(), kOwner, kPlenty));
  std::set<Hash128> there;
  for (const auto& record : disk->take_records()) there.insert(record.prefix);
  EXPECT_EQ(there, (std::set{example(1, 0).prefix, example(3, 0).prefix}));
  KRAIT_ASSERT_VALUE(const auto after, disk->read(example(3, 0).prefix));
  EXPECT_EQ(after, example(3, 6 << 20).object);
}

// Whatever bit is flipped in whatever file: the folder opens or says that it is corrupt, and what it gives back is the
// object that was written or an error. (Objects have checksums of their own; here RocksDB's are at work.)
TEST(StateDisk, FlippedBitsAreFound) {
  const TemporaryFolder original;
  std::map<Hash128, Example> examples;
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(original.path(), kOwner, kPlenty));
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      const Example one = example(seed, seed % 2 == 0 ? std::size_t{100} : std::size_t{5} << 20);
      ASSERT_TRUE(write(*disk, one));
      examples.emplace(one.prefix, one);
    }
  }
  // Opening again puts the log into a table and blob files.
  {
    KRAIT_ASSERT_VALUE(const auto disk, StateDisk::open(original.path(), kOwner, kPlenty));
  }
  Random random(5);
  int refused = 0;
  int errors = 0;
  int whole = 0;
  for (int round = 0; round < 40; ++round) {
    const TemporaryFolder folder;
    const auto copy = folder.path() / "copy";
    std::filesystem::copy(original.path(), copy);
    std::vector<std::filesystem::path> files;
    for (const auto& file : std::filesystem::directory_iterator(copy)) {
      const std::string name = file.path().filename().string();
      if (file.file_size() > 0 && !name.starts_with("LOG") && !name.starts_with("OPTIONS") && name != "IDENTITY") {
        files.push_back(file.path());
      }
    }
    std::ranges::sort(files);
    const auto& path = files[static_cast<std::size_t>(round) % files.size()];
    const std::uint64_t at = random.next() % std::filesystem::file_size(path);
    {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(static_cast<std::streamoff>(at));
      const int byte = file.get();
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(byte ^ (1 << (random.next() % 8))));
    }
    const auto disk = StateDisk::open(copy, kOwner, kPlenty);
    if (!disk) {
      ++refused;
      continue;
    }
    for (const auto& record : (*disk)->take_records()) {
      ASSERT_TRUE(examples.contains(record.prefix)) << path;
      const Example& expected = examples.at(record.prefix);
      EXPECT_EQ(record.tokens, expected.tokens) << path;
      const auto object = (*disk)->read(record.prefix);
      if (object) {
        EXPECT_EQ(*object, expected.object) << path << " at " << at;
        ++whole;
      } else {
        EXPECT_EQ(object.error().code, ErrorCode::kCorrupt) << object.error().message;
        ++errors;
      }
    }
  }
  EXPECT_GT(whole, 0);
  EXPECT_GT(errors, 0);
  EXPECT_LT(refused, 40);
}

}  // namespace
}  // namespace krait::runtime
