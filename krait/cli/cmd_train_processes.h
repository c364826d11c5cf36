// krait train in several processes: those that it starts itself on this machine and watches, and those that torchrun,
// mpirun or Slurm have started, of which it is one (docs/training_across_machines.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krait/cli/command.h"
#include "krait/train/process_group.h"
#include "krait/train/run_config.h"

namespace krait::cli {

struct ProcessesOptions {
  std::int64_t count = 0;     // to start; 0: this one trains
  std::int64_t restarts = 0;  // of all, after one has died
  std::int64_t timeout = 300;
};

void add_processes_options(CLI::App& command, ProcessesOptions& options);

// Starts them with `arguments`, and again with --resume where one dies; the exit status of the whole.
// `place`: of this process, where another launcher has started it.
int train_in_processes(const train::RunConfig& config, const std::optional<train::ProcessPlace>& place,
                       const ProcessesOptions& options, std::vector<std::string> arguments, bool quiet);

std::unique_ptr<train::ProcessGroup> join_processes(const train::ProcessPlace& place, const std::string& config,
                                                    const ProcessesOptions& options);
// As many as asked for, or this process's share of the cores.
void use_threads(int threads, const train::ProcessGroup* group);
// Whether the run's folder has one to go on from, or one that is damaged.
bool has_checkpoint(const train::RunConfig& config);

}  // namespace krait::cli
