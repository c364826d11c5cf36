// Scalars over the steps of a run in the format that TensorBoard reads: records of protocol buffers, each with its
// length and masked CRC-32C (TFRecord). No more of either format than scalars need.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string_view>

#include "krait/core/error.h"

namespace krait::train {

class EventFile {
 public:
  // A new file events.out.tfevents.<seconds>.krait in `folder`, which is made.
  static Result<EventFile> create(const std::filesystem::path& folder, double wall_seconds);

  void scalar(std::string_view tag, std::int64_t step, double value, double wall_seconds);
  // Whether everything so far reached the system. kInputOutput.
  Result<void> flush();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  explicit EventFile(std::filesystem::path path, std::FILE* file) : path_(std::move(path)), file_(file) {}
  void record(std::string_view event);

  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
  bool failed_ = false;
};

}  // namespace krait::train
