// Where a model's parameters begin when not by chance alone: as an earlier run has left them.
//
//   [model]
//   from = "runs/tales"        a run's folder, its checkpoints/ folder, or a model's folder that was exported
//   fresh = ["lm_head"]        names that begin with one of these begin anew
//
// Parameters are matched by their names and shapes. Of a run they are those of its newest whole checkpoint, averaged
// where the run kept an average, since that is what it evaluated and exported.
#pragma once

#include <torch/nn/module.h>

#include <filesystem>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/config_file.h"

namespace krait::train {

struct InitialParameters {
  std::filesystem::path from;      // empty: all begin anew
  std::vector<std::string> fresh;  // beginnings of names
};

// Reads `from` and `fresh` of [model]; `base` is what a relative folder is relative to.
InitialParameters read_initial_parameters(ConfigTable model, const std::filesystem::path& base);

struct TakenParameters {
  std::string origin;      // "step 400 of runs/tales/checkpoints"
  std::int64_t taken = 0;  // tensors
  std::int64_t anew = 0;   // tensors that stay as they were
};

// Writes them into the module's parameters. kInvalidArgument names every parameter that does not fit, with both shapes,
// those that only one side has among them, and a beginning in `fresh` that no name has; nothing has changed then.
Result<TakenParameters> take_parameters(torch::nn::Module& module, const InitialParameters& initial);

}  // namespace krait::train
