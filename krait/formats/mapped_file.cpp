// mmap of a whole file. The mapping is private and read-only; a file that is truncated by someone else while it is
// mapped raises SIGBUS on access, as for every program that maps weights.
#include "krait/formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace krait::formats {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

void unmap(std::span<const std::byte> bytes) {
  if (!bytes.empty()) ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const std::string name = path.string();
  // O_NONBLOCK: opening a pipe must not wait for a writer. It has no effect on regular files.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    const int error = errno;
    const ErrorCode code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kInputOutput;
    return fail(code, "[file] cannot open: {} ({})", reason(error), name);
  }
  struct stat status{};
  const int stat_error = ::fstat(descriptor, &status) == 0 ? 0 : errno;
  if (stat_error != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
    ::close(descriptor);
    if (stat_error != 0) return fail(ErrorCode::kInputOutput, "[file] cannot stat: {} ({})", reason(stat_error), name);
    if (S_ISDIR(status.st_mode)) {
      return fail(ErrorCode::kInvalidArgument, "[file] is a directory, not a file ({})", name);
    }
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kUnsupported, "[file] is not a regular file ({})", name);
    return fail(ErrorCode::kCorrupt, "[file] is empty ({})", name);
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int map_error = errno;
  ::close(descriptor);  // the mapping keeps the file alive
  if (address == MAP_FAILED) {
    return fail(ErrorCode::kInputOutput, "[file] cannot map {} bytes: {} ({})", size, reason(map_error), name);
  }
  MappedFile file;
  file.bytes_ = {static_cast<const std::byte*>(address), size};
  file.name_ = name;
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), name_(std::move(other.name_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap(bytes_);
    bytes_ = std::exchange(other.bytes_, {});
    name_ = std::move(other.name_);
  }
  return *this;
}

void MappedFile::release(std::span<const std::byte> part) const {
  const bool inside =
      !part.empty() && part.data() >= bytes_.data() && part.data() + part.size() <= bytes_.data() + bytes_.size();
  if (!inside) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
  const auto end = (reinterpret_cast<std::uintptr_t>(part.data()) + part.size()) / page * page;
  // Advice only. The mapping is private and never written, so nothing is lost.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::~MappedFile() { unmap(bytes_); }

}  // namespace krait::formats
