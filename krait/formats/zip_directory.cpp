#include "krait/formats/zip_directory.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>

#include "krait/formats/byte_cursor.h"

namespace krait::formats {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50;
constexpr std::uint32_t kEnd64Locator = 0x07064b50;

constexpr std::size_t kLocalHeaderBytes = 30;
constexpr std::size_t kCentralHeaderBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kEnd64LocatorBytes = 20;
constexpr std::size_t kMaximumComment = 0xffff;

// A value at a fixed place within a record that is known to be long enough.
template <class T>
T field(std::span<const std::byte> record, std::size_t offset) {
  return *ByteCursor(record, offset).read<T>();
}

// `size` bytes at `offset` that begin with `signature`.
std::optional<std::span<const std::byte>> record_at(std::span<const std::byte> file, std::uint64_t offset,
                                                    std::size_t size, std::uint32_t signature) {
  if (offset > file.size() || file.size() - offset < size) return std::nullopt;
  const auto record = file.subspan(static_cast<std::size_t>(offset), size);
  if (field<std::uint32_t>(record, 0) != signature) return std::nullopt;
  return record;
}

struct Directory {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
};

Result<Directory> find_directory(std::span<const std::byte> file, const std::string& origin) {
  // The end record is followed by a comment of up to 64 kB whose length it states.
  std::optional<std::span<const std::byte>> end;
  std::size_t end_offset = 0;
  for (std::size_t comment = 0; comment <= kMaximumComment && comment + kEndBytes <= file.size(); ++comment) {
    end_offset = file.size() - kEndBytes - comment;
    end = record_at(file, end_offset, kEndBytes, kEnd);
    if (end && field<std::uint16_t>(*end, 20) == comment) break;
    end.reset();
  }
  if (!end) return fail(ErrorCode::kCorrupt, "[zip] no end-of-directory record: cut short, or not a ZIP ({})", origin);

  std::uint32_t disk = field<std::uint16_t>(*end, 4);
  Directory directory{field<std::uint16_t>(*end, 10), field<std::uint32_t>(*end, 12), field<std::uint32_t>(*end, 16)};
  const auto locator = end_offset < kEnd64LocatorBytes
                           ? std::nullopt
                           : record_at(file, end_offset - kEnd64LocatorBytes, kEnd64LocatorBytes, kEnd64Locator);
  if (locator) {
    const auto end64_offset = field<std::uint64_t>(*locator, 8);
    const auto end64 = record_at(file, end64_offset, kEnd64Bytes, kEnd64);
    if (!end64) {
      return fail(ErrorCode::kCorrupt, "[zip] no ZIP64 end record at {} of {} bytes ({})", end64_offset, file.size(),
                  origin);
    }
    disk = field<std::uint32_t>(*end64, 16);
    const Directory wide{field<std::uint64_t>(*end64, 32), field<std::uint64_t>(*end64, 40),
                         field<std::uint64_t>(*end64, 48)};
    // The old record repeats what fits into it and holds all ones for the rest.
    const auto agrees = [](std::uint64_t narrow, std::uint64_t value, std::uint64_t all_ones) {
      return narrow == value || narrow == all_ones;
    };
    if (!agrees(directory.entries, wide.entries, 0xffff) || !agrees(directory.bytes, wide.bytes, 0xffffffff) ||
        !agrees(directory.offset, wide.offset, 0xffffffff)) {
      return fail(ErrorCode::kCorrupt,
                  "[zip] end records disagree: {} entries in {} bytes at {}, or {} entries in {} bytes at {} ({})",
                  directory.entries, directory.bytes, directory.offset, wide.entries, wide.bytes, wide.offset, origin);
    }
    directory = wide;
  }
  if (disk != 0) return fail(ErrorCode::kUnsupported, "[zip] archive is spread over several disks ({})", origin);
  if (directory.offset > end_offset || directory.bytes > end_offset - directory.offset) {
    return fail(ErrorCode::kCorrupt, "[zip] directory of {} bytes at {} ends past its end record at {} ({})",
                directory.bytes, directory.offset, end_offset, origin);
  }
  if (directory.entries > directory.bytes / kCentralHeaderBytes) {
    return fail(ErrorCode::kCorrupt, "[zip] directory of {} bytes cannot hold {} entries ({})", directory.bytes,
                directory.entries, origin);
  }
  return directory;
}

struct Place {
  std::uint64_t compressed;
  std::uint64_t size;
  std::uint64_t local_header;
};

// Replaces the values that are all ones by those of the ZIP64 extra field, which holds them in this order.
bool apply_zip64(std::span<const std::byte> extra, Place& place) {
  constexpr std::uint64_t kElsewhere = 0xffffffff;
  std::vector<std::uint64_t*> wanted;
  for (std::uint64_t* value : {&place.size, &place.compressed, &place.local_header}) {
    if (*value == kElsewhere) wanted.push_back(value);
  }
  if (wanted.empty()) return true;
  ByteCursor cursor(extra);
  while (cursor.remaining() > 0) {
    const auto id = cursor.read<std::uint16_t>();
    const auto size = cursor.read<std::uint16_t>();
    const auto body = size ? cursor.take(*size) : std::nullopt;
    if (!body) return false;
    if (*id != 1) continue;
    ByteCursor values(*body);
    for (std::uint64_t* value : wanted) {
      const auto read = values.read<std::uint64_t>();
      if (!read) return false;
      *value = *read;
    }
    return true;
  }
  return false;
}

// `limit`: where the directory begins; data ends before it.
Result<std::span<const std::byte>> data_of(std::span<const std::byte> file, const std::string& name, const Place& place,
                                           std::uint64_t limit, const std::string& origin) {
  const auto local =
      record_at(file.first(static_cast<std::size_t>(limit)), place.local_header, kLocalHeaderBytes, kLocalHeader);
  if (!local) {
    return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" has no header at {} ({})", name, place.local_header, origin);
  }
  const std::uint64_t name_bytes = field<std::uint16_t>(*local, 26);
  const std::uint64_t extra_bytes = field<std::uint16_t>(*local, 28);
  const std::uint64_t begin = place.local_header + kLocalHeaderBytes + name_bytes + extra_bytes;
  if (begin > limit || place.size > limit - begin) {
    return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" of {} bytes at {} ends past {} ({})", name, place.size, begin,
                limit, origin);
  }
  const auto local_name = *ByteCursor(file, place.local_header + kLocalHeaderBytes).take_text(name_bytes);
  if (local_name != name) {
    return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" is called \"{}\" in its own header ({})", name, local_name,
                origin);
  }
  return file.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(place.size));
}

}  // namespace

Result<std::vector<ZipEntry>> parse_zip_directory(std::span<const std::byte> file, const std::string& origin) {
  KRAIT_ASSIGN(const Directory directory, find_directory(file, origin));
  ByteCursor cursor(
      file.subspan(static_cast<std::size_t>(directory.offset), static_cast<std::size_t>(directory.bytes)));
  std::vector<ZipEntry> entries;
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    const auto header = cursor.take(kCentralHeaderBytes);
    if (!header || field<std::uint32_t>(*header, 0) != kCentralHeader) {
      return fail(ErrorCode::kCorrupt, "[zip] entry {} of {} is not in the directory ({})", i, directory.entries,
                  origin);
    }
    const auto name = cursor.take_text(field<std::uint16_t>(*header, 28));
    const auto extra = cursor.take(field<std::uint16_t>(*header, 30));
    const auto comment = cursor.take(field<std::uint16_t>(*header, 32));
    if (!name || !extra || !comment) {
      return fail(ErrorCode::kCorrupt, "[zip] entry {} of {} ends past the directory ({})", i, directory.entries,
                  origin);
    }
    ZipEntry entry{std::string(*name), {}};
    if (!names.insert(entry.name).second) {
      return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" is there twice ({})", entry.name, origin);
    }
    if ((field<std::uint16_t>(*header, 8) & 1U) != 0) {
      return fail(ErrorCode::kUnsupported, "[zip] entry \"{}\" is encrypted ({})", entry.name, origin);
    }
    const auto method = field<std::uint16_t>(*header, 10);
    if (method != 0) {
      return fail(ErrorCode::kUnsupported,
                  "[zip] entry \"{}\" is compressed (method {}); krait reads stored entries, as torch.save writes ({})",
                  entry.name, method, origin);
    }
    Place place{field<std::uint32_t>(*header, 20), field<std::uint32_t>(*header, 24),
                field<std::uint32_t>(*header, 42)};
    if (!apply_zip64(*extra, place)) {
      return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" lacks its ZIP64 sizes ({})", entry.name, origin);
    }
    if (place.compressed != place.size) {
      return fail(ErrorCode::kCorrupt, "[zip] entry \"{}\" is stored but has sizes {} and {} ({})", entry.name,
                  place.compressed, place.size, origin);
    }
    KRAIT_ASSIGN(entry.bytes, data_of(file, entry.name, place, directory.offset, origin));
    entries.push_back(std::move(entry));
  }
  if (cursor.remaining() != 0) {
    return fail(ErrorCode::kCorrupt, "[zip] directory has {} bytes after its {} entries ({})", cursor.remaining(),
                directory.entries, origin);
  }
  return entries;
}

}  // namespace krait::formats
