// A file that appears under its name only when it is complete: it is written beside it under a temporary name, flushed
// to the disk and renamed. Dropped before commit(), it leaves nothing behind and what stood under the name untouched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include "krait/core/error.h"

namespace krait::formats {

class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  // The first failure is kept, later writes do nothing, and commit() reports it.
  void write(const void* data, std::size_t size);

  // kInputOutput from the disk; `format` ("safetensors") begins the message.
  Result<void> commit(std::string_view format);

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
  int descriptor_ = -1;
  int error_ = 0;
  bool committed_ = false;
};

}  // namespace krait::formats
