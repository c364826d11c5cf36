#include "krait/cli/cmd_train_processes.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "krait/cli/terminal.h"
#include "krait/core/hash.h"
#include "krait/nn/compute_threads.h"
#include "krait/train/local_processes.h"

namespace krait::cli {
namespace {

// For the others to end by themselves once one has died: they say what they miss, and rank 0 may be writing.
constexpr auto kGrace = std::chrono::seconds(15);
constexpr auto kPoll = std::chrono::milliseconds(100);

// How the processes of one start ended.
struct Outcome {
  int status = 0;
  std::string failure;  // of the one that died first; empty: all came to their end, or were interrupted
};

Outcome watch(train::LocalProcesses processes) {
  Outcome outcome;
  bool told = false;
  while (!processes.is_empty()) {
    std::vector<train::ProcessEnd> ends = processes.wait(kPoll);
    // Who was killed is the cause, rather than who left on account of it.
    std::ranges::stable_sort(ends, {}, [](const train::ProcessEnd& of) { return !of.was_killed(); });
    for (const train::ProcessEnd& of : ends) {
      const int status = of.exit_status();
      if (status == 0) continue;
      outcome.status = status;
      if (status != kInterruptedStatus || of.was_killed()) outcome.failure = of.text();
      break;
    }
    if (!outcome.failure.empty()) break;
    if (InterruptGuard::interrupted() && !told) processes.signal(SIGINT);
    told = told || InterruptGuard::interrupted();
  }
  processes.stop(kGrace);
  return outcome;
}

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace

void add_processes_options(CLI::App& command, ProcessesOptions& options) {
  constexpr std::int64_t kMost = 4096;
  CLI::Option* processes =
      command
          .add_option("--processes", options.count, "Train in so many processes on this machine, which share the batch")
          ->check(CLI::Range(std::int64_t{1}, kMost));
  command
      .add_option("--restarts", options.restarts, "Start all of them again, from the last checkpoint, when one dies")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 30))
      ->needs(processes);
  command.add_option("--timeout", options.timeout, "Seconds to wait for another process before it counts as gone")
      ->capture_default_str()
      ->check(CLI::Range(1, 86400));
}

int train_in_processes(const train::RunConfig& config, const std::optional<train::ProcessPlace>& place,
                       const ProcessesOptions& options, std::vector<std::string> arguments, bool quiet) {
  if (config.data.loader.batch % options.count != 0) {
    throw UserError(fmt::format("[data] batch = {} cannot be split among {} processes evenly", config.data.loader.batch,
                                options.count),
                    "the batch is that of all processes together: a multiple of their number");
  }
  if (place && place->ranks > 1) {
    throw UserError(
        fmt::format("--processes in rank {} of {}, which {} has started", place->rank, place->ranks, place->launcher),
        "either krait starts the processes or another launcher does");
  }
  const auto note = [&](const std::string& text) {
    if (!quiet) fmt::print(stderr, "{}\n", text);
  };
  const InterruptGuard guard;
  for (std::int64_t attempt = 0;; ++attempt) {
    const auto store = value_or_throw(train::RendezvousStore::serve());
    const Outcome outcome =
        watch(value_or_throw(train::LocalProcesses::start({.program = std::filesystem::read_symlink("/proc/self/exe"),
                                                           .arguments = arguments,
                                                           .processes = options.count,
                                                           .port = store->port(),
                                                           .attempt = attempt})));
    if (outcome.failure.empty()) return outcome.status;
    // The command line does not get better.
    if (outcome.status == 2) return outcome.status;
    if (InterruptGuard::interrupted()) throw CommandError(outcome.failure + " while all were to stop");
    if (attempt >= options.restarts) {
      throw CommandError(fmt::format("{}; {}", outcome.failure,
                                     options.restarts == 0 ? "--restarts would start all again"
                                                           : fmt::format("{} restarts were all", options.restarts)));
    }
    note(fmt::format("{}: all are started again from the last checkpoint, {} of {}", outcome.failure, attempt + 1,
                     options.restarts));
    if (std::ranges::find(arguments, "--resume") == arguments.end()) arguments.emplace_back("--resume");
  }
}

std::unique_ptr<train::ProcessGroup> join_processes(const train::ProcessPlace& place, const std::string& config,
                                                    const ProcessesOptions& options) {
  const std::string text = file_text(config);
  return value_or_throw(train::ProcessGroup::join(
      place, {.timeout = std::chrono::seconds(options.timeout),
              .alike = {{"krait's version", KRAIT_VERSION},
                        {"the hash of the configuration", hash128(std::as_bytes(std::span(text))).hex()}}}));
}

void use_threads(int threads, const train::ProcessGroup* group) {
  if (threads == 0 && group != nullptr) threads = group->threads();
  if (threads > 0) nn::set_compute_threads(threads);
  // libtorch's own loops must not take the cores of the others.
  if (group != nullptr) at::set_num_threads(threads);
}

bool has_checkpoint(const train::RunConfig& config) {
  const auto files = train::list_checkpoint_files(config.checkpoint.folder);
  return files ? !files->manifests.empty() : files.error().code != ErrorCode::kNotFound;
}

}  // namespace krait::cli
