#include "krait/train/local_processes.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>

namespace krait::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr int kNotStarted = 127;

// The environment of here with other values for some of its variables.
std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    if (std::ranges::none_of(changes, [&](const auto& change) { return change.first == name; })) {
      result.emplace_back(text);
    }
  }
  for (const auto& [name, value] : changes) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Between fork and exec: only what is allowed after the fork of a process with threads.
[[noreturn]] void become(const char* program, char* const* arguments, char* const* environment, pid_t starter,
                         int report) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  // Not where the starter has died before it could be told of.
  if (getppid() == starter) execve(program, arguments, environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(report, &error, sizeof(error));
  ::_exit(kNotStarted);
}

}  // namespace

bool ProcessEnd::was_killed() const { return WIFSIGNALED(status); }

int ProcessEnd::exit_status() const { return was_killed() ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

std::string ProcessEnd::text() const {
  if (was_killed()) {
    const int number = WTERMSIG(status);
    return fmt::format("rank {} (process {}) was ended by signal {} ({})", rank, process, number, strsignal(number));
  }
  return fmt::format("rank {} (process {}) ended with status {}", rank, process, exit_status());
}

Result<LocalProcesses> LocalProcesses::start(const LocalProcessesOptions& options) {
  LocalProcesses started({});
  const pid_t self = getpid();
  for (std::int64_t rank = 0; rank < options.processes; ++rank) {
    std::vector<std::string> arguments = {options.program.filename().string()};
    arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
    std::vector<std::string> environment = environment_with({
        {"RANK", std::to_string(rank)},
        {"WORLD_SIZE", std::to_string(options.processes)},
        {"LOCAL_RANK", std::to_string(rank)},
        {"LOCAL_WORLD_SIZE", std::to_string(options.processes)},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MASTER_PORT", std::to_string(options.port)},
        {"TORCHELASTIC_USE_AGENT_STORE", "True"},
        {"TORCHELASTIC_RESTART_COUNT", std::to_string(options.attempt)},
        // Numbers of processes of another launcher, in which these are one.
        {"TORCHELASTIC_RUN_ID", "krait"},
    });
    const std::vector<char*> words = pointers(arguments), variables = pointers(environment);
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0) {
      return fail(ErrorCode::kResourceExhausted, "[processes] cannot start rank {}: {}", rank, std::strerror(errno));
    }
    const pid_t process = fork();
    if (process == 0) become(options.program.c_str(), words.data(), variables.data(), self, report[1]);
    int error = process < 0 ? errno : 0;
    close(report[1]);
    if (process > 0) {
      started.running_.push_back({rank, process});
      // Empty where it became the program, which has closed the pipe.
      while (read(report[0], &error, sizeof(error)) < 0 && errno == EINTR) continue;
    }
    close(report[0]);
    if (error != 0) {
      return fail(ErrorCode::kResourceExhausted, "[processes] cannot start rank {} as {}: {}", rank,
                  options.program.string(), std::strerror(error));
    }
  }
  return started;
}

LocalProcesses::~LocalProcesses() { stop(std::chrono::milliseconds(0)); }

std::vector<ProcessEnd> LocalProcesses::collect() {
  std::vector<ProcessEnd> ends;
  std::erase_if(running_, [&](const Running& of) {
    int status = 0;
    if (waitpid(of.process, &status, WNOHANG) != of.process) return false;
    ends.push_back({of.rank, of.process, status});
    return true;
  });
  return ends;
}

std::vector<ProcessEnd> LocalProcesses::wait(std::chrono::milliseconds longest) {
  const auto end = Clock::now() + longest;
  while (true) {
    std::vector<ProcessEnd> ends = collect();
    if (!ends.empty() || running_.empty() || Clock::now() >= end) return ends;
    std::this_thread::sleep_for(kPause);
  }
}

void LocalProcesses::signal(int number) const {
  for (const Running& of : running_) kill(of.process, number);
}

std::vector<ProcessEnd> LocalProcesses::stop(std::chrono::milliseconds grace) {
  std::vector<ProcessEnd> ends;
  const auto end = Clock::now() + grace;
  while (!running_.empty()) {
    if (Clock::now() >= end) signal(SIGKILL);
    for (const ProcessEnd& of : wait(kPause)) ends.push_back(of);
  }
  return ends;
}

}  // namespace krait::train
