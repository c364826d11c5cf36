#include "krait/formats/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

namespace krait::formats {
namespace {

// Tells the temporary files of concurrent writers in one process apart.
std::atomic<unsigned> temporary_files{0};

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target)
    : target_(std::move(target)),
      path_(target_.string() + fmt::format(".{}-{}.partial", ::getpid(), temporary_files++)) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor_ < 0) error_ = errno;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!committed_) ::unlink(path_.c_str());
}

void AtomicFile::write(const void* data, std::size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0 && error_ == 0) {
    const ssize_t written = ::write(descriptor_, bytes, size);
    if (written < 0) {
      if (errno != EINTR) error_ = errno;
      continue;
    }
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
}

Result<void> AtomicFile::commit(std::string_view format) {
  if (error_ == 0 && ::fsync(descriptor_) != 0) error_ = errno;
  if (error_ == 0 && ::rename(path_.c_str(), target_.c_str()) != 0) error_ = errno;
  if (error_ != 0) {
    return fail(ErrorCode::kInputOutput, "[{}] cannot write: {} ({})", format, std::generic_category().message(error_),
                target_.string());
  }
  committed_ = true;
  return {};
}

}  // namespace krait::formats
