#include "krait/train/resident_memory.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>

namespace krait::train {
namespace {

// The highest that the system was made to forget.
std::atomic<std::uint64_t> forgotten_peak = 0;

std::uint64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

std::uint64_t resident_bytes() { return status_bytes("VmRSS:"); }
std::uint64_t peak_resident_bytes() { return std::max(forgotten_peak.load(), status_bytes("VmHWM:")); }

std::uint64_t resident_growth(const std::function<void()>& call) {
  forgotten_peak = peak_resident_bytes();
  // Where the system does not allow it, a peak from before may stand for this one.
  std::ofstream("/proc/self/clear_refs") << 5;
  const std::uint64_t before = resident_bytes();
  call();
  return std::max(before, status_bytes("VmHWM:")) - before;
}

void return_freed_memory() {
#ifdef __GLIBC__
  // A threshold that is set no longer grows with the blocks that are freed, up to 32 MiB.
  ::mallopt(M_MMAP_THRESHOLD, 128 << 10);
  ::mallopt(M_TRIM_THRESHOLD, 256 << 10);
  ::malloc_trim(0);
#endif
}

}  // namespace krait::train
