// The learning rate over a run: a linear warm-up, then a course down to the last rate.
//   cosine   last + (peak - last) (1 + cos(pi s)) / 2,   s from 0 at the warm-up's end to 1 at the last step
//   wsd      the peak until the decay begins, then down in a line (warm-up, stable, decay; Hu et al. 2024)
//   constant the peak
#pragma once

#include <cstdint>
#include <string_view>

#include "krait/core/error.h"

namespace krait::train {

enum class ScheduleShape : std::uint8_t { cosine, wsd, constant };

// kInvalidArgument lists the names.
Result<ScheduleShape> schedule_shape(std::string_view name);
std::string_view to_string(ScheduleShape shape);

struct Schedule {
  ScheduleShape shape = ScheduleShape::cosine;
  double peak = 3e-3;
  double last = 0.0;         // rate of the last step
  std::int64_t warm_up = 0;  // steps
  std::int64_t steps = 0;    // of the whole run
  double decay_share = 0.2;  // of the steps, wsd

  // Of step 0 … steps - 1.
  double rate(std::int64_t step) const;
};

}  // namespace krait::train
