// The directory of a ZIP archive (PKWARE APPNOTE 6.3, with ZIP64), as far as PyTorch's checkpoints use it: entries
// that are stored, neither compressed nor encrypted, so that their bytes can be viewed in place. It is not a general
// unzip: checksums are not verified, several disks are refused.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krait/core/error.h"

namespace krait::formats {

struct ZipEntry {
  std::string name;
  std::span<const std::byte> bytes;
};

// In the order of the directory; names are unique. `file` must outlive the entries.
Result<std::vector<ZipEntry>> parse_zip_directory(std::span<const std::byte> file, const std::string& origin);

}  // namespace krait::formats
