#include "krait/train/curriculum_options.h"

namespace krait::train {

void read_curriculum(ConfigTable table, CurriculumOptions& options) {
  table.read("every", options.every, 1, std::int64_t{1} << 40);
  table.read("begin", options.begin, 0, std::int64_t{1} << 40);
  table.read("exploration", options.exploration, 0.0, 1.0);
  table.read("candidates", options.candidates, 1, 1 << 20);
  table.read("best", options.best, 1, 1 << 20);
  table.read("temperature", options.temperature, 0.0, 1e3);
  table.read("learned", options.learned, 0.0, 1e3);
  table.read("history", options.history, 1, 1000);
  table.read("updates", options.updates, 0, 1 << 16);
  table.read("rate", options.rate, 0.0, 1.0);
  table.read("weight_decay", options.decay, 0.0, 1e3);
  if (table.empty()) return;
  table.require("every");
  if (options.best > options.candidates) {
    table.wrong("best", fmt::format("is {} of {} candidates", options.best, options.candidates));
  }
}

}  // namespace krait::train
