// Which one of the processes that train together this is, as whoever started it says in the environment. Four families
// of variables are known; the first that is there counts:
//   torchrun   RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT; TORCHELASTIC_USE_AGENT_STORE and _RESTART_COUNT where
//              torchrun itself serves the store. krait's own launcher (local_processes.h) sets the same ones.
//   Open MPI   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_SIZE
//   PMI        PMI_RANK, PMI_SIZE: MPICH and its kin
//   Slurm      SLURM_PROCID and SLURM_STEP_NUM_TASKS or SLURM_NTASKS; the first host of SLURM_STEP_NODELIST or
//              SLURM_JOB_NODELIST; SLURM_JOB_ID for a port of the job's own
// MASTER_ADDR and MASTER_PORT count with all of them. Families that contradict each other are an error, but for
// Slurm's: inside a Slurm job other launchers number their own processes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "krait/core/error.h"

namespace krait::train {

struct ProcessPlace {
  std::string launcher;  // "torchrun", for messages
  std::int64_t rank = 0, ranks = 1;
  // Of the store where the ranks find one another.
  std::string address = {};
  std::uint16_t port = 0;
  bool store_is_served = false;  // by the launcher; otherwise rank 0 serves it
  std::int64_t attempt = 0;      // how often the launcher has started them before
};

using Environment = std::function<std::optional<std::string>(const std::string& name)>;
Environment process_environment();

// Nothing where no launcher has started this process. kInvalidArgument names the variable and what it says.
Result<std::optional<ProcessPlace>> process_place(const Environment& environment);

// The first of Slurm's list of hosts: "tower03" of "tower[03-05,07],fast1".
Result<std::string> first_host(std::string_view list);

}  // namespace krait::train
