// A file that a run adds to, step after step, and that lacks nothing once the disk takes it again.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "krait/core/error.h"

namespace krait::train {

// Open for the whole run, so that a line costs one call of the system.
class AppendedFile {
 public:
  enum class Begin { kEmpty, kAsItIs };
  // kInputOutput. kAsItIs: the file is there.
  static Result<AppendedFile> open(std::filesystem::path path, Begin begin);

  AppendedFile(AppendedFile&& other) noexcept
      : path_(std::move(other.path_)),
        waiting_(std::move(other.waiting_)),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  AppendedFile& operator=(AppendedFile&&) = delete;
  ~AppendedFile();

  // In memory until flush().
  void add(std::string_view bytes) { waiting_ += bytes; }
  // What cannot be written, which may be a part of it, waits for the next time. kInputOutput.
  Result<void> flush();

 private:
  AppendedFile(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::filesystem::path path_;
  std::string waiting_;
  int descriptor_;
};

}  // namespace krait::train
