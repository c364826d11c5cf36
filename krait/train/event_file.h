// Scalars over the steps of a run in the format that TensorBoard reads: records of protocol buffers, each with its
// length and masked CRC-32C (TFRecord). No more of either format than scalars need.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "krait/core/error.h"
#include "krait/train/appended_file.h"

namespace krait::train {

class EventFile {
 public:
  // A new file events.out.tfevents.<seconds>.krait in `folder`, which is made.
  static Result<EventFile> create(const std::filesystem::path& folder, double wall_seconds);

  void scalar(std::string_view tag, std::int64_t step, double value, double wall_seconds);
  // kInputOutput; what could not be written is written the next time.
  Result<void> flush() { return file_.flush(); }

 private:
  explicit EventFile(AppendedFile file) : file_(std::move(file)) {}
  void record(std::string_view event);

  AppendedFile file_;
};

}  // namespace krait::train
