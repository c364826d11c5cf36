// A study: the same training under several settings and several seeds, so that a claim can be repeated and chance be
// seen. A configuration with [study] stands for as many runs as it has variants times seeds:
//
//   [study]
//   seeds = [1, 2, 3]                each is the run's model.seed and data.seed
//   [[study.variant]]                none: one variant, "base"
//   name = "mamba2"                  also a folder's name
//   model.mixers = ["mamba2"]        whatever the rest of the file may have, over what it says there
//   train.steps = 500
//
// Each is an ordinary run with a folder of its own, NAME/seed-S in the study's output.folder (study_runs.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "krait/core/error.h"
#include "krait/train/config_file.h"

namespace krait::train {

struct StudyRun {
  std::string variant;
  std::int64_t seed = 0;
  ConfigFile config;  // without [study]: what an ordinary run reads
  std::string name() const { return variant + "/seed-" + std::to_string(seed); }
};

struct StudyPlan {
  std::string folder;  // output.folder as the file has it
  std::vector<std::string> variants;
  std::vector<std::int64_t> seeds;
  std::vector<StudyRun> runs;  // all variants under the first seed, then under the next
};

bool is_study(ConfigFile& file);

// kInvalidArgument, with the place, for what is wrong in [study]. What the runs' own tables say is not looked at.
Result<StudyPlan> expand_study(ConfigFile& file);

}  // namespace krait::train
