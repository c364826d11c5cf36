#include "krait/core/cores.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

namespace krait {
inline namespace core {
namespace {

// The number that the file begins with.
std::optional<int> topology(int core, const char* what) {
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/" + what);
  int number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

}  // namespace

std::vector<int> usable_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  if (cores.empty()) {
    cores.resize(std::max(1U, std::thread::hardware_concurrency()));
    std::iota(cores.begin(), cores.end(), 0);
  }
  return cores;
}

std::vector<int> by_place(std::vector<int> cores) {
  std::map<int, std::tuple<int, int, int>> places;
  for (const int core : cores) {
    const auto package = topology(core, "physical_package_id"), first = topology(core, "thread_siblings_list");
    if (!package || !first) return cores;
    places[core] = {*package, *first, core};
  }
  std::ranges::sort(cores, {}, [&](int core) { return places.at(core); });
  return cores;
}

void keep_to(std::span<const int> cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) {
    if (core >= 0 && core < CPU_SETSIZE) CPU_SET(core, &set);
  }
  sched_setaffinity(0, sizeof(set), &set);
}

}  // namespace core
}  // namespace krait
