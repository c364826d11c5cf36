#include "krait/train/direct_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace krait::train {

std::unexpected<Error> file_failure(int error, std::string_view what, const std::filesystem::path& path) {
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  return fail(full ? ErrorCode::kResourceExhausted : ErrorCode::kInputOutput, "[storage] {}: {} ({})", what,
              std::generic_category().message(error), path.string());
}

Result<void> sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return file_failure(errno, "cannot open the folder", folder);
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0) return file_failure(error, "cannot flush the folder", folder);
  return {};
}

Result<DirectFile> DirectFile::create(const std::filesystem::path& path, bool direct) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  int descriptor = -1;
  if (direct) descriptor = ::open(path.c_str(), kFlags | O_DIRECT, 0666);
  if (direct && descriptor < 0 && errno == EINVAL) {
    // Some file systems make the file before they find that they have no O_DIRECT.
    ::unlink(path.c_str());
    direct = false;
  }
  if (!direct) descriptor = ::open(path.c_str(), kFlags, 0666);
  if (descriptor < 0) return file_failure(errno, "cannot create", path);
  return DirectFile(descriptor, direct, path);
}

DirectFile::~DirectFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> DirectFile::allocate(std::uint64_t bytes) {
  if (bytes == 0) return {};
  int error = 0;
  do {
    error = ::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EOPNOTSUPP || error == ENOSYS) return truncate(bytes);
  if (error != 0) return file_failure(error, fmt::format("cannot take {} bytes of the disk", bytes), path_);
  return {};
}

Result<void> DirectFile::truncate(std::uint64_t bytes) {
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0) return {};
  return file_failure(errno, fmt::format("cannot make it {} bytes long", bytes), path_);
}

Result<void> DirectFile::sync() {
  if (::fsync(descriptor_) == 0) return {};
  return file_failure(errno, "cannot flush", path_);
}

}  // namespace krait::train
