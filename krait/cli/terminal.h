// What the program needs to know of the terminal: colours, a progress bar, and Ctrl-C.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace krait::cli {

bool is_terminal(std::FILE* stream);

// Escape sequences for a stream; all empty when it is no terminal or NO_COLOR is set.
struct Style {
  std::string_view bold, dim, red, green, cyan, reset;
  static Style for_stream(std::FILE* stream);
};

// A line on stderr that shows how far long work has come: bar, share, rate, time left. Shows nothing when stderr is
// no terminal, and nothing for work that is over within half a second.
class Progress {
 public:
  Progress(std::string label, std::int64_t total, std::string_view unit);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(std::int64_t done);
  void finish();  // wipes the line

 private:
  std::string label_;
  std::int64_t total_;
  std::string_view unit_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point next_;
};

// While one lives, the first Ctrl-C only sets a flag, for the work to stop in order; a second one ends the program.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  static bool interrupted();
  static void clear();
};
constexpr int kInterruptedStatus = 130;

// The most memory this process has used so far, in bytes.
std::uint64_t peak_memory_bytes();

// "1.5 MiB", "312 bytes"
std::string bytes_text(std::uint64_t bytes);
// "3,129,120"
std::string count_text(std::int64_t count);

}  // namespace krait::cli
