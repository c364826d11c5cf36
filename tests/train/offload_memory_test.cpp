// The memory that this process takes for a run through a file, against predicted_peak_bytes(). A program of its own,
// since an emulator and sanitizers keep memory beside memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "krait/train/offload_file.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using Slot = OffloadFile::Slot;

// What this process has in memory, in bytes.
std::uint64_t resident() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, pages = 0;
  file >> size >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// Forward over the layers and back, as training does it: every tensor of a layer in use at once, the next layer read
// ahead, those before written behind. The most that was resident.
std::uint64_t train_over(OffloadFile& file, const std::vector<std::vector<std::uint64_t>>& layers, bool& same) {
  std::vector<std::vector<Slot>> slots;
  for (const auto& layer : layers) {
    slots.emplace_back();
    for (const std::uint64_t bytes : layer) slots.back().push_back(*file.reserve("t", bytes));
  }
  std::uint64_t most = 0;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < layers.size(); ++i) order.push_back(i);
  for (int step = 0; step < 4; ++step) {
    for (std::size_t n = 0; n < order.size(); ++n) {
      if (n + 1 < order.size()) {
        for (const Slot slot : slots[order[n + 1]]) file.prefetch(slot);
      }
      for (const Slot slot : slots[order[n]]) {
        const auto bytes = file.acquire(slot);
        if (!bytes) throw std::runtime_error(bytes.error().message);
        for (std::byte& byte : *bytes) {
          same = same && byte == static_cast<std::byte>(step);
          byte = static_cast<std::byte>(step + 1);
        }
      }
      most = std::max(most, resident());
      for (const Slot slot : slots[order[n]]) static_cast<void>(file.release(slot, true));
    }
    std::ranges::reverse(order);
  }
  return most;
}

std::unique_ptr<OffloadFile> create(std::uint64_t memory_bytes) {
  const tests::TemporaryFolder folder;
  auto file = OffloadFile::create({.folder = folder.path(), .memory_bytes = memory_bytes});
  if (!file) throw std::runtime_error(file.error().message);
  return *std::move(file);
}

TEST(OffloadMemory, IsWhatTheModelSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer keeps memory beside memory";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "the sanitizer keeps memory beside memory";
#endif
#endif
  constexpr std::uint64_t kMega = 1 << 20;
  bool same = true;
  {
    // Stacks, the heap and the code are resident before the count begins.
    const std::vector<std::vector<std::uint64_t>> small(4, {1000, 5000});
    const auto file = create(predicted_peak_bytes(small, 1, 1));
    train_over(*file, small, same);
  }
  std::vector<std::vector<std::uint64_t>> layers;
  std::uint64_t all = 0;
  for (std::uint64_t i = 0; i < 16; ++i) layers.push_back({4 * kMega + 4096 * i, 3 * kMega, 100'000, 3000});
  for (const auto& layer : layers) {
    for (const std::uint64_t bytes : layer) all += bytes;
  }
  const std::uint64_t predicted = predicted_peak_bytes(layers, 1, 1);
  const std::uint64_t before = resident();
  const auto file = create(predicted);
  const std::uint64_t grown = train_over(*file, layers, same) - before;
  EXPECT_TRUE(same);
  EXPECT_LE(file->memory_use().peak_reserved, predicted);
  // Beside the buffers: page tables, the engine's ring, the bookkeeping of slots; far less than a layer.
  EXPECT_LE(grown, predicted + kMega);
  EXPECT_GE(grown, predicted * 8 / 10) << "two neighbours and the layer in use are there at once";
  EXPECT_LT(4 * predicted, all) << "or there would be nothing to save";
  std::printf("RSS grew by %.2f MiB, the model says %.2f MiB, the tensors are %.2f MiB\n",
              static_cast<double>(grown) / kMega, static_cast<double>(predicted) / kMega,
              static_cast<double>(all) / kMega);
}

}  // namespace
}  // namespace krait::train
