#include "krait/cli/terminal.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kFirstShown = std::chrono::milliseconds(500);
constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr int kBarWidth = 30;

volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int signal) {
  if (g_interrupted != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  g_interrupted = 1;
}

}  // namespace

bool is_terminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

Style Style::for_stream(std::FILE* stream) {
  if (!is_terminal(stream) || std::getenv("NO_COLOR") != nullptr) return {};
  return {"\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"};
}

Progress::Progress(std::string label, std::int64_t total, std::string_view unit)
    : label_(std::move(label)),
      total_(std::max<std::int64_t>(total, 1)),
      unit_(unit),
      enabled_(is_terminal(stderr)),
      start_(Clock::now()),
      next_(start_ + kFirstShown) {}

void Progress::update(std::int64_t done) {
  if (!enabled_ || Clock::now() < next_) return;
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0);
  const int filled = static_cast<int>(share * kBarWidth);
  const double rate = static_cast<double>(done) / seconds;
  const double left = share > 0 ? seconds * (1 - share) / share : 0;
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) bar += i < filled ? "█" : "·";
  fmt::print(stderr, "\r\x1b[K{} {} {:3.0f} %  {:.0f} {}/s  {:.0f} s left", label_, bar, share * 100, rate, unit_,
             left);
  std::fflush(stderr);
  drawn_ = true;
  next_ = Clock::now() + kRedraw;
}

void Progress::finish() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
  drawn_ = false;
}

InterruptGuard::InterruptGuard() {
  g_interrupted = 0;
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);  // no SA_RESTART: a blocked read returns
}

InterruptGuard::~InterruptGuard() { std::signal(SIGINT, SIG_DFL); }

bool InterruptGuard::interrupted() { return g_interrupted != 0; }

void InterruptGuard::clear() { g_interrupted = 0; }

std::uint64_t peak_memory_bytes() {
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string count_text(std::int64_t count) {
  const std::string digits = std::to_string(count);
  const std::size_t sign = digits.front() == '-' ? 1 : 0;
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

}  // namespace krait::cli
