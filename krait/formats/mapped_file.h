// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "krait/core/error.h"

namespace krait::formats {

class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  // Gives the whole pages of a part of bytes() back to the system; they are read again when touched.
  void release(std::span<const std::byte> part) const;
  const std::string& name() const { return name_; }  // the path as given, for messages

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

}  // namespace krait::formats
