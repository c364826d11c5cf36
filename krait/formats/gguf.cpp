// The tensors of a GGUF file. Their descriptions follow the metadata; their data begins at the next multiple of
// "general.alignment", and every tensor at a multiple of it from there.
//
// A tensor of a type that krait does not read fails the whole file when it is opened, not when it is viewed: a
// TensorInfo has to state a dtype, the tensor's extent cannot be checked, and no model runs with a weight missing.
#include "krait/formats/gguf.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <vector>

#include "krait/formats/byte_cursor.h"
#include "krait/formats/gguf_metadata.h"
#include "krait/formats/gguf_types.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/weight_source_table.h"

namespace krait::formats {
namespace {

struct Description {
  TensorInfo info;
  std::uint64_t offset = 0;  // from the beginning of the data
};

Result<Description> read_description(ByteCursor& cursor, std::uint64_t index, const std::string& origin) {
  const auto name_bytes = cursor.read<std::uint64_t>();
  const auto name = name_bytes ? cursor.take_text(*name_bytes) : std::nullopt;
  const auto dimensions = name ? cursor.read<std::uint32_t>() : std::nullopt;
  if (!dimensions) {
    return fail(ErrorCode::kCorrupt, "[gguf] file ends within the description of tensor {} ({})", index, origin);
  }
  Description description;
  TensorInfo& info_of = description.info;
  info_of.name = *name;
  if (*dimensions > kGgufMaximumDimensions) {
    return fail(ErrorCode::kCorrupt, "[gguf] tensor \"{}\" has {} dimensions, more than {} ({})", info_of.name,
                *dimensions, kGgufMaximumDimensions, origin);
  }
  for (std::uint32_t i = 0; i < *dimensions; ++i) {
    const auto dimension = cursor.read<std::int64_t>();
    if (!dimension) {
      return fail(ErrorCode::kCorrupt, "[gguf] file ends within the description of tensor \"{}\" ({})", info_of.name,
                  origin);
    }
    info_of.shape.insert(info_of.shape.begin(), *dimension);  // GGUF names the contiguous dimension first
  }
  const auto type = cursor.read<std::uint32_t>();
  const auto offset = cursor.read<std::uint64_t>();
  if (!type || !offset) {
    return fail(ErrorCode::kCorrupt, "[gguf] file ends within the description of tensor \"{}\" ({})", info_of.name,
                origin);
  }
  const auto dtype = gguf_dtype(*type);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported, "[gguf] tensor \"{}\" has type {}, which krait does not read ({})",
                info_of.name, *type, origin);
  }
  info_of.dtype = *dtype;
  description.offset = *offset;
  const auto elements = element_count(info_of.shape);
  const std::int64_t row = info_of.shape.empty() ? 1 : info_of.shape.back();
  const std::int32_t block = info(*dtype).elements_per_block;
  if (elements && row % block != 0) {
    return fail(ErrorCode::kCorrupt, "[gguf] tensor \"{}\" has rows of {} elements, not whole blocks of {} ({})",
                info_of.name, row, block, origin);
  }
  const auto bytes = elements ? bytes_for(*dtype, *elements) : std::nullopt;
  if (!bytes) {
    return fail(ErrorCode::kCorrupt, "[gguf] tensor \"{}\": the size of shape {} overflows ({})", info_of.name,
                to_string(info_of.shape), origin);
  }
  info_of.bytes = *bytes;
  return description;
}

Result<std::uint64_t> alignment_of(const Config& metadata) {
  KRAIT_ASSIGN(const std::int64_t alignment, metadata.integer_or("general.alignment", kGgufDefaultAlignment));
  if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    return fail(ErrorCode::kCorrupt, "[gguf] general.alignment is {}, not a power of two ({})", alignment,
                metadata.origin());
  }
  return static_cast<std::uint64_t>(alignment);
}

Result<void> check_disjoint(const std::vector<WeightEntry>& entries, const std::string& origin) {
  std::vector<const WeightEntry*> by_place;
  for (const WeightEntry& entry : entries) {
    if (!entry.bytes.empty()) by_place.push_back(&entry);
  }
  std::ranges::sort(by_place, {}, [](const WeightEntry* entry) { return entry->bytes.data(); });
  for (std::size_t i = 1; i < by_place.size(); ++i) {
    const auto before = by_place[i - 1]->bytes;
    if (by_place[i]->bytes.data() < before.data() + before.size()) {
      return fail(ErrorCode::kCorrupt, "[gguf] tensor \"{}\" overlaps tensor \"{}\" ({})", by_place[i]->info.name,
                  by_place[i - 1]->info.name, origin);
    }
  }
  return {};
}

Result<WeightTable::Parts> parse_parts(std::span<const std::byte> file, const std::string& origin) {
  KRAIT_ASSIGN(GgufHeader header, parse_gguf_header(file, origin));
  KRAIT_ASSIGN(const std::int64_t splits, header.metadata.integer_or("split.count", 0));
  if (splits > 1) {
    return fail(ErrorCode::kUnsupported, "[gguf] file is one of {} parts; merge them first ({})", splits, origin);
  }
  KRAIT_ASSIGN(const std::uint64_t alignment, alignment_of(header.metadata));

  ByteCursor cursor(file, header.end);
  std::vector<Description> descriptions;
  for (std::uint64_t i = 0; i < header.tensors; ++i) {
    KRAIT_ASSIGN(Description description, read_description(cursor, i, origin));
    descriptions.push_back(std::move(description));
  }
  // Alignment is at most 2^62 and a position far below: the sum does not overflow.
  const std::uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  const auto data = file.subspan(static_cast<std::size_t>(std::min<std::uint64_t>(data_begin, file.size())));

  std::vector<WeightEntry> entries;
  for (Description& description : descriptions) {
    TensorInfo& info_of = description.info;
    if (description.offset % alignment != 0) {
      return fail(ErrorCode::kCorrupt, "[gguf] tensor \"{}\" lies at offset {}, not a multiple of {} ({})",
                  info_of.name, description.offset, alignment, origin);
    }
    if (info_of.bytes == 0) {
      entries.push_back({std::move(info_of), {}});
      continue;
    }
    if (description.offset > data.size() || info_of.bytes > data.size() - description.offset) {
      return fail(ErrorCode::kCorrupt,
                  "[gguf] tensor \"{}\" of {} bytes at offset {} ends past the data: {} bytes ({})", info_of.name,
                  info_of.bytes, description.offset, data.size(), origin);
    }
    const auto bytes = data.subspan(static_cast<std::size_t>(description.offset), info_of.bytes);
    entries.push_back({std::move(info_of), bytes});
  }
  KRAIT_TRY(check_disjoint(entries, origin));
  return WeightTable::Parts{.format = "gguf",
                            .origin = origin,
                            .config = std::move(header.metadata),
                            .entries = std::move(entries),
                            .file = {},
                            .buffers = {}};
}

}  // namespace

Result<std::unique_ptr<WeightSource>> parse_gguf(std::span<const std::byte> file, const std::string& origin) {
  KRAIT_ASSIGN(WeightTable::Parts parts, parse_parts(file, origin));
  return WeightTable::create(std::move(parts));
}

Result<std::unique_ptr<WeightSource>> open_gguf(const std::filesystem::path& path) {
  KRAIT_ASSIGN(MappedFile file, MappedFile::open(path));
  KRAIT_ASSIGN(WeightTable::Parts parts, parse_parts(file.bytes(), file.name()));
  parts.file = std::move(file);
  return WeightTable::create(std::move(parts));
}

}  // namespace krait::formats
