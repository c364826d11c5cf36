// Run under the tsan preset as well: most of what can go wrong here is an ordering.
#include "krait/core/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace krait {
namespace {

// Neighbouring bodies write neighbouring plain ints: a range handed out twice is a race that tsan sees.
void expect_each_index_once(ThreadPool& pool, std::int64_t count, std::int64_t grain) {
  std::vector<int> visits(static_cast<std::size_t>(count), 0);
  pool.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
  });
  for (std::int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(visits[static_cast<std::size_t>(i)], 1) << "index " << i << " of " << count << ", grain " << grain;
  }
}

TEST(ThreadPool, CoversEachIndexOnce) {
  for (const int threads : {1, 2, 3, 4, 7}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (const std::int64_t count : {0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 1000}) {
      for (const std::int64_t grain : {1, 2, 3, 8, 64, 999, 1000, 1001}) expect_each_index_once(pool, count, grain);
    }
  }
}

TEST(ThreadPool, RangesAreGrainLongExceptTheLast) {
  ThreadPool pool(3);
  std::mutex mutex;
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  pool.parallel_for(103, 10, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    ranges.emplace_back(begin, end);
  });
  ASSERT_EQ(ranges.size(), 11U);
  for (const auto& [begin, end] : ranges) {
    EXPECT_EQ(begin % 10, 0);
    EXPECT_EQ(end, std::min<std::int64_t>(begin + 10, 103));
  }
}

TEST(ThreadPool, GrainBelowOneMeansOne) {
  ThreadPool pool(2);
  expect_each_index_once(pool, 10, 0);
  expect_each_index_once(pool, 10, -5);
}

TEST(ThreadPool, EmptyAndNegativeCountsDoNothing) {
  ThreadPool pool(2);
  int calls = 0;
  pool.parallel_for(0, 1, [&](std::int64_t, std::int64_t) { ++calls; });
  pool.parallel_for(-3, 1, [&](std::int64_t, std::int64_t) { ++calls; });
  EXPECT_EQ(calls, 0);
}

// A grain near the top of the range must not wrap round when it is added to an index.
TEST(ThreadPool, HugeGrainAndCountDoNotOverflow) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    std::atomic<std::int64_t> covered{0};
    pool.parallel_for(kMost, kMost / 2 + 1, [&](std::int64_t begin, std::int64_t end) { covered += end - begin; });
    EXPECT_EQ(covered, kMost);
  }
}

TEST(ThreadPool, ThousandsOfTinyLoopsKeepTheirOrder) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(16, 0);
  constexpr int kLoops = 5000;
  for (int loop = 0; loop < kLoops; ++loop) {
    // Each loop reads what the one before wrote at another index: a loop that starts early is a wrong sum and a race.
    std::vector<std::int64_t> before = values;
    pool.parallel_for(16, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        values[static_cast<std::size_t>(i)] = before[static_cast<std::size_t>((i + 5) % 16)] + 1;
      }
    });
  }
  for (const std::int64_t value : values) EXPECT_EQ(value, kLoops);
}

// Long enough a pause for the workers to have gone to sleep: waking them is another path than spinning.
TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    expect_each_index_once(pool, 1000, 1);
  }
}

// The starter runs out of work at once and has to sleep until the other thread is done.
TEST(ThreadPool, WaitsForASlowWorker) {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> arrived{0};
    std::atomic<int> finished{0};
    pool.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
      ++arrived;
      while (arrived < 2) std::this_thread::yield();
      if (ThreadPool::thread_index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      ++finished;
    });
    EXPECT_EQ(finished, 2);
  }
}

TEST(ThreadPool, ThreadIndexTellsThreadsApart) {
  constexpr int kThreads = 4;
  ThreadPool pool(kThreads);
  std::atomic<int> arrived{0};
  std::vector<int> seen(kThreads, 0);
  // All bodies wait for each other, so each runs on a thread of its own.
  pool.parallel_for(kThreads, 1, [&](std::int64_t, std::int64_t) {
    ++arrived;
    while (arrived < kThreads) std::this_thread::yield();
    ++seen.at(static_cast<std::size_t>(ThreadPool::thread_index()));
  });
  for (const int visits : seen) EXPECT_EQ(visits, 1);
  EXPECT_EQ(ThreadPool::thread_index(), 0);
}

TEST(ThreadPool, ExceptionReachesTheStarterAndThePoolLivesOn) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 20; ++round) {
      std::string message;
      try {
        pool.parallel_for(100, 1, [&](std::int64_t begin, std::int64_t) {
          if (begin == 37) throw std::runtime_error("body 37");
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      ASSERT_EQ(message, "body 37");
      expect_each_index_once(pool, 50, 3);
    }
  }
}

TEST(ThreadPool, OneOfManyExceptionsIsEnough) {
  ThreadPool pool(4);
  EXPECT_THROW(pool.parallel_for(64, 1, [](std::int64_t begin, std::int64_t) { throw begin; }), std::int64_t);
  expect_each_index_once(pool, 64, 1);
}

TEST(ThreadPool, NestedLoopsRunOnTheirCaller) {
  ThreadPool pool(3);
  ThreadPool other(2);
  std::atomic<int> strayed{0};
  std::vector<int> visits(8 * 32, 0);
  pool.parallel_for(8, 1, [&](std::int64_t row, std::int64_t) {
    const std::thread::id caller = std::this_thread::get_id();
    const auto fill = [&](std::int64_t begin, std::int64_t end) {
      if (std::this_thread::get_id() != caller) ++strayed;
      for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(row * 32 + i)];
    };
    pool.parallel_for(16, 1, fill);
    other.parallel_for(16, 1, [&](std::int64_t begin, std::int64_t end) { fill(begin + 16, end + 16); });
  });
  EXPECT_EQ(strayed, 0);
  for (const int count : visits) EXPECT_EQ(count, 1);
}

TEST(ThreadPool, LoopAfterANestedExceptionUsesAllThreadsAgain) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(4, 1,
                                 [&](std::int64_t, std::int64_t) {
                                   pool.parallel_for(4, 1, [](std::int64_t, std::int64_t) { throw 1; });
                                 }),
               int);
  std::atomic<int> arrived{0};
  // Ends only if both threads take part.
  pool.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 2);
}

TEST(ThreadPool, PoolOfOneRunsOnTheCaller) {
  ThreadPool pool(1);
  const std::thread::id caller = std::this_thread::get_id();
  pool.parallel_for(100, 7, [&](std::int64_t, std::int64_t) { EXPECT_EQ(std::this_thread::get_id(), caller); });
}

TEST(ThreadPool, DefaultSizeIsAtLeastOne) {
  const ThreadPool pool;
  EXPECT_GE(pool.size(), 1);
}

TEST(ThreadPool, UnusedPoolsStartAndEnd) {
  for (int i = 0; i < 50; ++i) const ThreadPool pool(3);
}

}  // namespace
}  // namespace krait
