// A file that is written or read in whole pages, past the system's memory (O_DIRECT) where the file system can: what
// is read once or written once would only push out what others need. And the errors of files in our words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "krait/core/error.h"

namespace krait::train {

// kResourceExhausted for a disk, a quota or a limit that is full, so that a caller may make room and go on;
// kInputOutput for everything else. `what` is "cannot write 4096 bytes" and the like.
std::unexpected<Error> file_failure(int error, std::string_view what, const std::filesystem::path& path);

// What was made, renamed or removed in a folder is there after a crash of the machine.
Result<void> sync_folder(const std::filesystem::path& folder);

class DirectFile {
 public:
  static constexpr std::size_t kPage = 4096;  // memory, offsets and lengths are multiples of it

  // Makes a file that must not exist, for reading and writing. Without `direct` through the system's memory.
  static Result<DirectFile> create(const std::filesystem::path& path, bool direct);
  DirectFile(DirectFile&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), direct_(other.direct_), path_(std::move(other.path_)) {}
  DirectFile& operator=(DirectFile&&) = delete;
  DirectFile(const DirectFile&) = delete;
  ~DirectFile();

  int descriptor() const { return descriptor_; }
  const std::filesystem::path& path() const { return path_; }
  bool direct() const { return direct_; }  // whether the file system took O_DIRECT when the file was made

  // Takes the place of bytes [0, bytes) on the disk, which read as zeros; a full disk shows here. Where the file system
  // cannot, the file is only made so long.
  Result<void> allocate(std::uint64_t bytes);
  Result<void> truncate(std::uint64_t bytes);
  Result<void> sync();

 private:
  DirectFile(int descriptor, bool direct, std::filesystem::path path)
      : descriptor_(descriptor), direct_(direct), path_(std::move(path)) {}

  int descriptor_;
  bool direct_;
  std::filesystem::path path_;
};

}  // namespace krait::train
