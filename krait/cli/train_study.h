// What `krait train` does with a configuration that has [study]: its runs, one after the other, and their table.
#pragma once

#include <string>

#include "krait/train/config_file.h"

namespace krait::cli {

struct TrainStudyOptions {
  std::string config;  // its path
  bool resume = false, json = false, quiet = false;
};

// The exit status.
int train_study(const TrainStudyOptions& options, train::ConfigFile& file);

}  // namespace krait::cli
