// krait top: a server watched from a terminal.
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "krait/cli/command.h"
#include "krait/cli/terminal.h"
#include "krait/load/http_client.h"
#include "krait/load/top_view.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct TopOptions {
  std::string url;
  std::string key;
  double interval = 1;
  bool once = false;
  bool json = false;
};

// The whole screen, without a cursor and with keys as they are typed; what was there comes back.
class FullScreen {
 public:
  FullScreen() {
    typed_ = tcgetattr(STDIN_FILENO, &before_) == 0;
    if (typed_) {
      termios raw = before_;
      raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write("\x1b[?1049h\x1b[?25l");
  }
  ~FullScreen() {
    write("\x1b[?25h\x1b[?1049l");
    if (typed_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  FullScreen(const FullScreen&) = delete;
  FullScreen& operator=(const FullScreen&) = delete;

  void draw(const std::vector<std::string>& lines) {
    std::string text = "\x1b[H";
    for (std::size_t i = 0; i < lines.size(); ++i) {
      if (i > 0) text += "\r\n";
      text += lines[i] + "\x1b[K";
    }
    write(text + "\x1b[J");
  }

  // False: q was typed, or Ctrl-C.
  bool wait(double seconds) const {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    const winsize before = size();
    while (!InterruptGuard::interrupted()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) return true;
      pollfd keys{typed_ ? STDIN_FILENO : -1, POLLIN, 0};
      // A signal ends the wait; a window of another size is looked for.
      const int count = poll(&keys, 1, static_cast<int>(std::min<long>(left, 100)));
      if (count > 0) {
        char c = 0;
        if (read(STDIN_FILENO, &c, 1) == 1 && (c == 'q' || c == 'Q')) return false;
        if ((keys.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) return false;
      }
      const winsize now = size();
      if (now.ws_col != before.ws_col || now.ws_row != before.ws_row) return true;
    }
    return false;
  }

  static winsize size() {
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) size = {24, 80, 0, 0};
    return size;
  }

 private:
  static void write(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }
  termios before_{};
  bool typed_ = false;
};

class Watcher {
 public:
  explicit Watcher(const TopOptions& options)
      : options_(options), server_(value_or_throw(load::resolve(options.url))) {}

  // CommandError where there is no server, or no krait server.
  void read() {
    const auto answer = ask(server_, request_text(server_, "GET", "/metrics", options_.key, ""), kTimeout);
    if (!answer) throw CommandError(answer.error().message);
    if (answer->status != 200) {
      throw CommandError(fmt::format("{}/metrics: status {}{}", options_.url, answer->status,
                                     answer->status == 401 ? ", it wants a key: --key" : ""));
    }
    auto samples = value_or_throw(load::MetricsSamples::parse(answer->body));
    if (!samples.has("krait_steps_total")) {
      throw CommandError(fmt::format("{}/metrics has nothing of krait serve", options_.url));
    }
    before_ = std::exchange(after_, std::move(samples));
    before_at_ = std::exchange(after_at_, Clock::now());
  }

  load::TopView view() const {
    return view_between(before_, after_, std::chrono::duration<double>(after_at_ - before_at_).count());
  }

 private:
  static constexpr double kTimeout = 5;
  const TopOptions& options_;
  const load::ServerAddress server_;
  load::MetricsSamples before_, after_;
  Clock::time_point before_at_, after_at_;
};

std::string title(const TopOptions& options) { return fmt::format("krait top {}", options.url); }

int watch(const TopOptions& options) {
  Watcher watcher(options);
  const InterruptGuard guard;
  watcher.read();
  if (options.once || options.json || !is_terminal(stdout)) {
    do {
      std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
      if (InterruptGuard::interrupted()) return kInterruptedStatus;
      watcher.read();
      if (options.json) {
        fmt::print("{}\n", json_text(watcher.view()));
      } else {
        for (const auto& line : lines_of(watcher.view(), title(options), 1000, 1000, false)) fmt::print("{}\n", line);
      }
      std::fflush(stdout);
    } while (!options.once);
    return 0;
  }
  FullScreen screen;
  while (screen.wait(options.interval)) {
    std::vector<std::string> lines;
    const winsize size = FullScreen::size();
    const bool styled = !Style::for_stream(stdout).bold.empty();
    try {
      watcher.read();
      lines = lines_of(watcher.view(), title(options) + "   q: end", size.ws_col, size.ws_row, styled);
    } catch (const CommandError& error) {
      // It may come back.
      lines = {title(options).substr(0, size.ws_col), std::string(error.what()).substr(0, size.ws_col)};
    }
    screen.draw(lines);
  }
  return InterruptGuard::interrupted() ? kInterruptedStatus : 0;
}

}  // namespace

void add_top(CLI::App& program, int& status) {
  auto options = std::make_shared<TopOptions>();
  options->url = "http://127.0.0.1:8080";
  CLI::App* command = program.add_subcommand("top", "Watch a server: rates, queue, times, states and keys");
  command->add_option("url", options->url, "Where it is")->capture_default_str()->type_name("URL");
  command->add_option("--key", options->key, "An API key, where it asks for one")->type_name("KEY");
  command->add_option("-i,--interval", options->interval, "Seconds between two readings")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str()
      ->type_name("S");
  command->add_flag("--once", options->once, "Print what it shows after one interval, and end");
  command->add_flag("--json", options->json, "A line of JSON for each interval");
  command->footer(
      "Rates and percentiles are those of the last interval; percentiles are as fine as the server's histograms.\n"
      "q and Ctrl-C end it.\n"
      "Examples:\n"
      "  krait top\n"
      "  krait top http://10.0.0.7:8080 --key sk-3f9c -i 5\n"
      "  krait top --once --json");
  command->callback([options, &status] { status = watch(*options); });
}

}  // namespace krait::cli
