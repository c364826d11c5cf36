#include "krait/core/cores.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "krait/core/thread_pool.h"

namespace krait {
namespace {

TEST(Cores, AreAtLeastOneAndRise) {
  const std::vector<int> cores = usable_cores();
  ASSERT_FALSE(cores.empty());
  EXPECT_TRUE(std::ranges::is_sorted(cores));
  EXPECT_EQ(std::ranges::adjacent_find(cores), cores.end());
}

TEST(Cores, ByPlaceTheyAreTheSameAndNeighboursStandTogether) {
  std::vector<int> cores = by_place(usable_cores());
  EXPECT_EQ(by_place({1 << 20, 0}), (std::vector<int>{1 << 20, 0}));  // nothing is known of one
  // What is one core to the hardware stands together, where the system says so.
  const auto siblings = [](int core) {
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list");
    std::string line;
    std::getline(file, line);
    return line;
  };
  std::set<std::string> seen;
  std::string last;
  for (const int core : cores) {
    const std::string now = siblings(core);
    if (now.empty()) break;
    if (now != last) {
      EXPECT_TRUE(seen.insert(now).second) << now;
    }
    last = now;
  }
  std::ranges::sort(cores);
  EXPECT_EQ(cores, usable_cores());
}

TEST(Cores, AThreadKeepsToThoseThatItIsTold) {
  const std::vector<int> before = usable_cores();
  std::thread([&] {
    const std::vector<int> last = {before.back()};
    keep_to(last);
    EXPECT_EQ(usable_cores(), last);
    keep_to(before);
    EXPECT_EQ(usable_cores(), before);
    keep_to(std::vector<int>{-1, 1 << 20});  // there are none such: it stays where it was
    EXPECT_EQ(usable_cores(), before);
  }).join();
  EXPECT_EQ(usable_cores(), before);  // of this thread
}

TEST(Cores, WorkersOfAPoolKeepToIts) {
  const std::vector<int> last = {usable_cores().back()};
  ThreadPool pool(3, last);
  std::mutex mutex;
  std::set<int> workers;
  // Until both workers have had a part.
  while (workers.size() < 2) {
    pool.parallel_for(64, 1, [&](std::int64_t, std::int64_t) {
      if (ThreadPool::thread_index() == 0) return std::this_thread::yield();
      const std::lock_guard lock(mutex);
      workers.insert(ThreadPool::thread_index());
      EXPECT_EQ(usable_cores(), last);
    });
  }
}

}  // namespace
}  // namespace krait
