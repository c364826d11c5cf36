#include "krait/train/appended_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace krait::train {

Result<AppendedFile> AppendedFile::open(std::filesystem::path path, Begin begin) {
  const int fresh = begin == Begin::kEmpty ? O_CREAT | O_TRUNC : 0;
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | fresh, 0666);
  if (descriptor < 0) {
    return fail(ErrorCode::kInputOutput, "[train] cannot write {}: {}", path.string(), std::strerror(errno));
  }
  return AppendedFile(std::move(path), descriptor);
}

AppendedFile::~AppendedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> AppendedFile::flush() {
  while (!waiting_.empty()) {
    const ssize_t written = ::write(descriptor_, waiting_.data(), waiting_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      return fail(ErrorCode::kInputOutput, "[train] cannot write {}: {}", path_.string(), std::strerror(errno));
    }
    waiting_.erase(0, static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace krait::train
