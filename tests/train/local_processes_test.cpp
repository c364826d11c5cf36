#include "krait/train/local_processes.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>

namespace krait::train {
namespace {

Result<LocalProcesses> start(const std::string& script, std::int64_t processes) {
  return LocalProcesses::start(
      {.program = "/bin/sh", .arguments = {"-c", script}, .processes = processes, .port = 4242, .attempt = 2});
}

std::vector<ProcessEnd> all_ends(LocalProcesses& processes) {
  std::vector<ProcessEnd> ends;
  while (!processes.is_empty()) {
    for (const ProcessEnd& of : processes.wait(std::chrono::seconds(10))) ends.push_back(of);
  }
  std::ranges::sort(ends, {}, &ProcessEnd::rank);
  return ends;
}

TEST(LocalProcesses, TellEachItsRank) {
  auto processes = start(
      "test $WORLD_SIZE = 3 && test $LOCAL_WORLD_SIZE = 3 && test $LOCAL_RANK = $RANK && test $MASTER_PORT = 4242 && "
      "test $MASTER_ADDR = 127.0.0.1 && test $TORCHELASTIC_RESTART_COUNT = 2 && exit $RANK; exit 99",
      3);
  ASSERT_TRUE(processes.has_value()) << processes.error().message;
  const std::vector<ProcessEnd> ends = all_ends(*processes);
  ASSERT_EQ(ends.size(), 3U);
  for (std::int64_t rank = 0; rank < 3; ++rank) {
    const ProcessEnd& of = ends[static_cast<std::size_t>(rank)];
    EXPECT_EQ(of.rank, rank);
    EXPECT_FALSE(of.was_killed());
    EXPECT_EQ(of.exit_status(), rank);
  }
}

TEST(LocalProcesses, SayWhichWasKilledAndByWhat) {
  auto processes = start("test $RANK = 1 && kill -9 $$; exit 0", 2);
  ASSERT_TRUE(processes.has_value()) << processes.error().message;
  const std::vector<ProcessEnd> ends = all_ends(*processes);
  ASSERT_EQ(ends.size(), 2U);
  EXPECT_TRUE(ends[1].was_killed());
  EXPECT_EQ(ends[1].exit_status(), 128 + 9);
  EXPECT_NE(ends[1].text().find("rank 1 (process"), std::string::npos) << ends[1].text();
  EXPECT_NE(ends[1].text().find("signal 9"), std::string::npos) << ends[1].text();
}

TEST(LocalProcesses, AreKilledWhereTheyDoNotEndInTime) {
  auto processes = start("test $RANK = 0 && exit 3; while true; do sleep 0.05; done", 2);
  ASSERT_TRUE(processes.has_value()) << processes.error().message;
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<ProcessEnd> ends = processes->stop(std::chrono::milliseconds(300));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(300));
  ASSERT_EQ(ends.size(), 2U);
  EXPECT_EQ(ends.back().exit_status(), 128 + 9);
  EXPECT_TRUE(processes->is_empty());
}

TEST(LocalProcesses, DoNotOutliveTheirOwner) {
  pid_t process = 0;
  {
    auto processes = start("exec sleep 100", 1);
    ASSERT_TRUE(processes.has_value()) << processes.error().message;
    const auto none = processes->wait(std::chrono::milliseconds(50));
    EXPECT_TRUE(none.empty());
    // Its number, from what it looks like when it is killed below by its owner's end.
    std::ifstream children("/proc/thread-self/children");
    ASSERT_TRUE(children >> process);
  }
  EXPECT_NE(kill(process, 0), 0);
}

TEST(LocalProcesses, NameTheProgramThatIsNotThere) {
  const auto processes = LocalProcesses::start({.program = "/no/such/program", .arguments = {}, .processes = 2});
  ASSERT_FALSE(processes.has_value());
  EXPECT_NE(processes.error().message.find("/no/such/program"), std::string::npos) << processes.error().message;
}

}  // namespace
}  // namespace krait::train
