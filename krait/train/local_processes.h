// Processes on this machine that train together: started, watched and ended together. None outlives the one that
// started them, whatever becomes of that (PR_SET_PDEATHSIG).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

struct LocalProcessesOptions {
  std::filesystem::path program;
  std::vector<std::string> arguments;  // after the program's name
  std::int64_t processes = 1;
  std::uint16_t port = 0;    // of the store on this machine that the starter serves
  std::int64_t attempt = 0;  // how often they were started before
};

struct ProcessEnd {
  std::int64_t rank = 0;
  pid_t process = 0;
  int status = 0;  // as wait() has it

  bool was_killed() const;
  int exit_status() const;   // as shells have it: 128 and the signal for one that was killed
  std::string text() const;  // "rank 2 (process 4711) was ended by signal 9 (Killed)"
};

class LocalProcesses {
 public:
  // Each gets its rank in the variables of launcher_environment.h, and a process group of its own: Ctrl-C at the
  // terminal reaches who started them, and nobody twice.
  static Result<LocalProcesses> start(const LocalProcessesOptions& options);
  ~LocalProcesses();  // those that are left are killed
  LocalProcesses(LocalProcesses&& other) noexcept : running_(std::exchange(other.running_, {})) {}
  LocalProcesses& operator=(LocalProcesses&&) = delete;

  bool is_empty() const { return running_.empty(); }
  // Those that have ended since it was asked last; waits a little while where none has.
  std::vector<ProcessEnd> wait(std::chrono::milliseconds longest);
  void signal(int number) const;
  // Gives them some time to end by themselves, then kills them.
  std::vector<ProcessEnd> stop(std::chrono::milliseconds grace);

 private:
  struct Running {
    std::int64_t rank;
    pid_t process;
  };
  explicit LocalProcesses(std::vector<Running> running) : running_(std::move(running)) {}
  std::vector<ProcessEnd> collect();
  std::vector<Running> running_;
};

}  // namespace krait::train
