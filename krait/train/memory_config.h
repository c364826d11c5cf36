// What a run may have of memory, and what it keeps on the disk for that:
//
//   [memory]
//   limit = "2GiB"                                    of the whole process; "": as little as it takes
//   offload = ["optimiser", "activations", "parameters"]   unless given, all three
//   folder = "/scratch"                               of the file, which goes away with the process; unless given, the
//                                                     run's output folder
//
//   optimiser    moments and averages are in the file
//   activations  what goes into each layer is in the file, the rest is computed again on the way back; needs optimiser
//   parameters   parameters and gradients are in the file; needs both
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "krait/core/error.h"
#include "krait/train/config_file.h"

namespace krait::train {

struct MemoryOptions {
  bool optimiser = false, activations = false, parameters = false;
  std::uint64_t limit = 0;            // bytes; 0: none
  std::filesystem::path folder = {};  // empty: the run's

  bool any() const { return optimiser; }
};

void read_memory_config(ConfigFile& file, MemoryOptions& memory);

// "1.5GiB", "200 MB", "4096": bytes. kInvalidArgument for what is none.
Result<std::uint64_t> parse_bytes(const std::string& text);

}  // namespace krait::train
