#include "krait/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace krait::train {

Result<ScheduleShape> schedule_shape(std::string_view name) {
  for (const ScheduleShape shape : {ScheduleShape::cosine, ScheduleShape::wsd, ScheduleShape::constant}) {
    if (to_string(shape) == name) return shape;
  }
  return fail(ErrorCode::kInvalidArgument, "[train] no schedule '{}': cosine, wsd, constant", name);
}

std::string_view to_string(ScheduleShape shape) {
  switch (shape) {
    case ScheduleShape::cosine: return "cosine";
    case ScheduleShape::wsd: return "wsd";
    case ScheduleShape::constant: break;
  }
  return "constant";
}

double Schedule::rate(std::int64_t step) const {
  if (step < warm_up) return peak * static_cast<double>(step + 1) / static_cast<double>(warm_up + 1);
  const auto left = static_cast<double>(std::max<std::int64_t>(1, steps - 1 - warm_up));
  const double progress = std::min(1.0, static_cast<double>(step - warm_up) / left);
  switch (shape) {
    case ScheduleShape::cosine: return last + (peak - last) * (1.0 + std::cos(std::numbers::pi * progress)) / 2.0;
    case ScheduleShape::wsd: {
      const double begins = 1.0 - decay_share;
      return progress <= begins ? peak : last + (peak - last) * (1.0 - progress) / decay_share;
    }
    case ScheduleShape::constant: break;
  }
  return peak;
}

}  // namespace krait::train
