// Reads state objects.
#include "krait/formats/state_file.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/formats/state_file_layout.h"

namespace krait::formats {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostSections = 1 << 16;
constexpr std::size_t kMostDimensions = 8;

// Thrown inside the header's reader, where the JSON library throws its own as well.
struct Wrong {
  std::string what;
};

const Json& member(const Json& object, const char* key) {
  if (!object.is_object()) throw Wrong{fmt::format("\"{}\" is asked of something that is no object", key)};
  const auto found = object.find(key);
  if (found == object.end()) throw Wrong{fmt::format("\"{}\" is missing", key)};
  return *found;
}

std::uint64_t number(const Json& object, const char* key, std::uint64_t most) {
  const Json& value = member(object, key);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most) {
    throw Wrong{fmt::format("\"{}\" is no whole number up to {}: {}", key, most, value.dump())};
  }
  return value.get<std::uint64_t>();
}

const std::string& text(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (!value.is_string()) throw Wrong{fmt::format("\"{}\" is no text: {}", key, value.dump())};
  return value.get_ref<const std::string&>();
}

Hash128 hash(const Json& object, const char* key) {
  const auto value = Hash128::parse(text(object, key));
  if (!value) throw Wrong{fmt::format("\"{}\" is no hash of 32 digits: {}", key, text(object, key))};
  return *value;
}

StateDescription description_of(const Json& header) {
  StateDescription description;
  const Json& model = member(header, "model");
  description.identity.architecture = text(model, "architecture");
  description.identity.weights = text(model, "weights");
  description.identity.model = hash(model, "hash");
  description.identity.tokenizer = hash(member(header, "tokenizer"), "hash");
  description.position = static_cast<std::int64_t>(number(header, "position", INT64_MAX));
  description.prefix = hash(header, "prefix");
  if (header.contains("note")) description.note = text(header, "note");
  if (header.contains("sampler")) {
    const Json& sampler = member(header, "sampler");
    StateSampler& out = description.sampler.emplace();
    out.seed = number(sampler, "seed", UINT64_MAX);
    out.random = number(sampler, "random", UINT64_MAX);
    const Json& options = member(sampler, "options");
    if (!options.is_object()) throw Wrong{"\"options\" of the sampler is no object"};
    for (const auto& [key, value] : options.items()) {
      if (!value.is_number()) throw Wrong{fmt::format("option \"{}\" of the sampler is no number", key)};
      out.options[key] = value.get<double>();
    }
  }
  return description;
}

// `begin`: where the sections begin; `end`: where the object does.
StateSection section_of(const Json& row, std::uint64_t begin, std::uint64_t end, std::uint64_t previous_end) {
  StateSection section;
  section.name = text(row, "name");
  const auto wrong = [&](const std::string& what) {
    return Wrong{fmt::format("section \"{}\": {}", section.name, what)};
  };
  section.role = text(row, "role");
  const auto dtype = parse_dtype(text(row, "dtype"));
  if (!dtype) throw wrong(fmt::format("unknown dtype {}", text(row, "dtype")));
  section.dtype = *dtype;
  const Json& shape = member(row, "shape");
  if (!shape.is_array() || shape.size() > kMostDimensions) throw wrong("its shape is no list of up to 8 numbers");
  for (const Json& dimension : shape) {
    if (!dimension.is_number_unsigned() || dimension.get<std::uint64_t>() > INT64_MAX) {
      throw wrong(fmt::format("dimension {} is not possible", dimension.dump()));
    }
    section.shape.push_back(dimension.get<std::int64_t>());
  }
  section.bytes = number(row, "bytes", INT64_MAX);
  section.stored_bytes = number(row, "stored_bytes", INT64_MAX);
  section.crc32c = static_cast<std::uint32_t>(number(row, "crc32c", UINT32_MAX));
  const std::uint64_t offset = number(row, "offset", INT64_MAX);
  if (row.contains("compression")) {
    if (text(row, "compression") != "zstd")
      throw wrong(fmt::format("unknown compression {}", text(row, "compression")));
    section.compressed = true;
    // A zstd block of 128 KiB takes 4 bytes at the least: what claims more cannot be read.
    if (section.bytes / 32768 > section.stored_bytes) {
      throw wrong(fmt::format("{} bytes cannot be compressed to {}", section.bytes, section.stored_bytes));
    }
  } else if (section.stored_bytes != section.bytes) {
    throw wrong(fmt::format("{} bytes are stored as {} without compression", section.bytes, section.stored_bytes));
  }
  if (offset % kStateAlignment != 0 || offset > end - begin || section.stored_bytes > end - begin - offset) {
    throw wrong(fmt::format("bytes {} to {} do not lie in the {} after the header", offset,
                            offset + section.stored_bytes, end - begin));
  }
  section.offset = begin + offset;
  if (section.offset < previous_end) throw wrong("overlaps the one before it");
  return section;
}

Result<StatePrelude> prelude_of(std::span<const std::byte> bytes, const std::string& origin) {
  StatePrelude prelude;
  if (bytes.size() < sizeof prelude) {
    return fail(ErrorCode::kCorrupt, "[state] {} bytes are fewer than the {} every state object begins with ({})",
                bytes.size(), sizeof prelude, origin);
  }
  std::memcpy(&prelude, bytes.data(), sizeof prelude);
  if (prelude.magic != kStateMagic) {
    return fail(ErrorCode::kCorrupt, "[state] this is no state object: it does not begin with KRAITST ({})", origin);
  }
  if (prelude.endianness != kStateEndianness) {
    return fail(ErrorCode::kUnsupported, "[state] written on a machine of another byte order: mark {:08x} ({})",
                prelude.endianness, origin);
  }
  const auto crc = crc32c(prelude.bytes().first(sizeof prelude - sizeof prelude.prelude_crc32c));
  if (crc != prelude.prelude_crc32c) {
    return fail(ErrorCode::kCorrupt, "[state] the first 64 bytes are damaged: checksum {:08x}, not {:08x} ({})", crc,
                prelude.prelude_crc32c, origin);
  }
  if (prelude.version != kStateFileVersion) {
    return fail(ErrorCode::kUnsupported, "[state] format version {} is not the {} that this krait reads ({})",
                prelude.version, kStateFileVersion, origin);
  }
  if (prelude.file_bytes != bytes.size()) {
    return fail(ErrorCode::kCorrupt, "[state] {} bytes instead of {}: the object was cut or added to ({})",
                bytes.size(), prelude.file_bytes, origin);
  }
  if (prelude.header_bytes > kStateFileMaximumHeader ||
      state_aligned(sizeof prelude + prelude.header_bytes) > bytes.size()) {
    return fail(ErrorCode::kCorrupt, "[state] a header of {} bytes in an object of {} ({})", prelude.header_bytes,
                bytes.size(), origin);
  }
  return prelude;
}

}  // namespace

Result<StateObject> StateObject::open(const std::filesystem::path& path) {
  KRAIT_ASSIGN(MappedFile file, MappedFile::open(path));
  const std::span<const std::byte> bytes = file.bytes();
  KRAIT_ASSIGN(StateObject object, parse(bytes, path.string()));
  object.file_ = std::move(file);
  return object;
}

Result<StateObject> StateObject::parse(std::span<const std::byte> bytes, std::string origin) {
  KRAIT_ASSIGN(const StatePrelude prelude, prelude_of(bytes, origin));
  const auto header_bytes = bytes.subspan(sizeof prelude, static_cast<std::size_t>(prelude.header_bytes));
  if (crc32c(header_bytes) != prelude.header_crc32c) {
    return fail(ErrorCode::kCorrupt, "[state] the header is damaged: checksum {:08x}, not {:08x} ({})",
                crc32c(header_bytes), prelude.header_crc32c, origin);
  }
  StateObject object;
  object.bytes_ = bytes;
  object.origin_ = std::move(origin);
  try {
    const auto* first = reinterpret_cast<const char*>(header_bytes.data());
    const Json header = Json::parse(first, first + header_bytes.size());
    object.description_ = description_of(header);
    const Json& rows = member(header, "sections");
    if (!rows.is_array() || rows.size() > kMostSections) throw Wrong{"\"sections\" is no list of reasonable length"};
    const std::uint64_t begin = state_aligned(sizeof prelude + prelude.header_bytes);
    std::uint64_t previous_end = begin;
    for (const Json& row : rows) {
      object.sections_.push_back(section_of(row, begin, bytes.size(), previous_end));
      previous_end = object.sections_.back().offset + object.sections_.back().stored_bytes;
    }
  } catch (const Wrong& wrong) {
    return fail(ErrorCode::kCorrupt, "[state] header: {} ({})", wrong.what, object.origin_);
  } catch (const Json::exception& wrong) {
    return fail(ErrorCode::kCorrupt, "[state] header: {} ({})", wrong.what(), object.origin_);
  }
  return object;
}

const StateSection* StateObject::find(std::string_view name) const {
  const auto found = std::ranges::find(sections_, name, &StateSection::name);
  return found == sections_.end() ? nullptr : &*found;
}

Result<void> StateObject::verify() const {
  for (const StateSection& section : sections_) {
    const auto crc = crc32c(bytes_.subspan(section.offset, section.stored_bytes));
    if (crc != section.crc32c) {
      return fail(ErrorCode::kCorrupt, "[state] section \"{}\" is damaged: checksum {:08x}, not {:08x} ({})",
                  section.name, crc, section.crc32c, origin_);
    }
  }
  StatePrelude prelude;
  std::memcpy(&prelude, bytes_.data(), sizeof prelude);
  const Hash128 expected{prelude.object_high, prelude.object_low};
  prelude.object_high = prelude.object_low = 0;
  prelude.prelude_crc32c = 0;
  Hasher hasher;
  hasher.feed(prelude.bytes());
  hasher.feed(bytes_.subspan(sizeof prelude));
  if (hasher.value() != expected) {
    return fail(ErrorCode::kCorrupt, "[state] the object is damaged between its sections: hash {}, not {} ({})",
                hasher.value().hex(), expected.hex(), origin_);
  }
  return {};
}

Result<void> StateObject::read(const StateSection& section, std::span<std::byte> out) const {
  KRAIT_CHECK_EQ(out.size(), section.bytes);
  const auto stored = bytes_.subspan(section.offset, section.stored_bytes);
  if (!section.compressed) {
    std::ranges::copy(stored, out.begin());
    return {};
  }
  const std::size_t got = ZSTD_decompress(out.data(), out.size(), stored.data(), stored.size());
  if (ZSTD_isError(got) != 0 || got != out.size()) {
    return fail(ErrorCode::kCorrupt, "[state] section \"{}\" does not decompress to {} bytes: {} ({})", section.name,
                out.size(), ZSTD_isError(got) != 0 ? ZSTD_getErrorName(got) : fmt::format("{}", got), origin_);
  }
  return {};
}

}  // namespace krait::formats
