// [curriculum] of a run's configuration: how the mixture of objectives is changed on the way (curriculum.h).
//
//   [curriculum]
//   every = 100          steps between two looks at the losses
//   begin = 0            the step of the first: until then the mixture is the one that is given
//   exploration = 1.0    chance of a mixture by chance at the run's beginning; a cosine brings it to 0 at the end
//   candidates = 1024    mixtures that the reward network is asked about
//   best = 16            of them, the mean of which is taken
//   temperature = 0      above 0: each of them counts by exp(expected / temperature), in units of the rewards of the
//                        last looks. With `best` = `candidates`, mixtures of which about the same is expected count
//                        alike, and their mean is near the uniform one
//   learned = 0          a loss below this has been learned: what it does there is worth nothing
//   history = 4          looks back that the network sees
//   updates = 16         of the network, each time
#pragma once

#include <cstdint>

#include "krait/train/config_file.h"

namespace krait::train {

struct CurriculumOptions {
  std::int64_t every = 0;  // 0: none
  std::int64_t begin = 0;
  double exploration = 1.0;
  std::int64_t candidates = 1024, best = 16;
  double temperature = 0.0;
  double learned = 0.0;
  std::int64_t history = 4;
  std::int64_t updates = 16;
  std::int64_t batch = 32;  // outcomes an update learns from
  double rate = 5e-4, decay = 0.1;
  std::uint64_t seed = 0;
};

// A table that is there asks for `every`; what is wrong is noted.
void read_curriculum(ConfigTable table, CurriculumOptions& options);

}  // namespace krait::train
