#include "krait/formats/gguf_metadata.h"

#include <limits>
#include <optional>

#include "krait/formats/byte_cursor.h"
#include "krait/formats/gguf.h"
#include "krait/formats/gguf_types.h"

namespace krait::formats {
namespace {

// The fewest bytes that a value of each type takes: a text has its length, an array its type and count.
constexpr std::uint64_t kMinimumBytes[kGgufTypeCount] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
constexpr std::uint64_t kMinimumPair = 8 + 4 + 1;        // key length, type, a byte
constexpr std::uint64_t kMinimumTensor = 8 + 4 + 4 + 8;  // name length, dimensions, type, offset
constexpr int kMaximumNesting = 8;
// Every inner array repeats the key of the outer one: without a bound, 1 MB of file could ask for gigabytes of keys.
constexpr std::size_t kMaximumNestedKeyBytes = std::size_t{16} << 20;

class MetadataReader {
 public:
  MetadataReader(ByteCursor cursor, Config& config) : cursor_(cursor), config_(config) {}

  std::size_t position() const { return cursor_.position(); }

  Result<void> pair() {
    const auto length = cursor_.read<std::uint64_t>();
    const auto key = length ? cursor_.take_text(*length) : std::nullopt;
    const auto type = key ? cursor_.read<std::uint32_t>() : std::nullopt;
    if (!type) {
      return fail(ErrorCode::kCorrupt, "[gguf] file ends within metadata, at byte {} ({})", cursor_.position(),
                  config_.origin());
    }
    const std::string name(*key);
    if (*type == kGgufArray) return array(name, 1);
    KRAIT_ASSIGN(auto value, scalar(name, *type));
    return store(name, std::move(value));
  }

 private:
  std::unexpected<Error> cut_short(const std::string& key) const {
    return fail(ErrorCode::kCorrupt, "[gguf] metadata \"{}\" ends past the file ({})", key, config_.origin());
  }

  Result<void> store(const std::string& key, Config::Value value) {
    if (config_.find(key) != nullptr) {
      return fail(ErrorCode::kCorrupt, "[gguf] metadata \"{}\" is there twice ({})", key, config_.origin());
    }
    config_.set(key, std::move(value));
    return {};
  }

  template <class Stored>
  Result<std::int64_t> integer(const std::string& key) {
    const auto value = cursor_.read<Stored>();
    if (!value) return cut_short(key);
    if constexpr (std::is_same_v<Stored, std::uint64_t>) {
      if (*value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return fail(ErrorCode::kUnsupported, "[gguf] metadata \"{}\" is {}, more than 63 bits hold ({})", key, *value,
                    config_.origin());
      }
    }
    return static_cast<std::int64_t>(*value);
  }

  Result<std::int64_t> any_integer(const std::string& key, std::uint32_t type) {
    switch (type) {
      case kGgufUint8: return integer<std::uint8_t>(key);
      case kGgufInt8: return integer<std::int8_t>(key);
      case kGgufUint16: return integer<std::uint16_t>(key);
      case kGgufInt16: return integer<std::int16_t>(key);
      case kGgufUint32: return integer<std::uint32_t>(key);
      case kGgufInt32: return integer<std::int32_t>(key);
      case kGgufUint64: return integer<std::uint64_t>(key);
      default: return integer<std::int64_t>(key);
    }
  }

  Result<double> number(const std::string& key, std::uint32_t type) {
    if (type == kGgufFloat64) {
      const auto value = cursor_.read<double>();
      if (!value) return cut_short(key);
      return *value;
    }
    const auto value = cursor_.read<float>();
    if (!value) return cut_short(key);
    return static_cast<double>(*value);
  }

  Result<bool> boolean(const std::string& key) {
    const auto value = cursor_.read<std::uint8_t>();
    if (!value) return cut_short(key);
    if (*value > 1) {
      return fail(ErrorCode::kCorrupt, "[gguf] metadata \"{}\" is a boolean of value {} ({})", key, *value,
                  config_.origin());
    }
    return *value == 1;
  }

  Result<std::string> text(const std::string& key) {
    const auto length = cursor_.read<std::uint64_t>();
    const auto value = length ? cursor_.take_text(*length) : std::nullopt;
    if (!value) return cut_short(key);
    return std::string(*value);
  }

  std::unexpected<Error> unknown_type(const std::string& key, std::uint32_t type) const {
    return fail(ErrorCode::kUnsupported, "[gguf] metadata \"{}\" has the unknown type {} ({})", key, type,
                config_.origin());
  }

  Result<Config::Value> scalar(const std::string& key, std::uint32_t type) {
    switch (type) {
      case kGgufFloat32:
      case kGgufFloat64: return number(key, type);
      case kGgufBool: return boolean(key);
      case kGgufString: return text(key);
      default: break;
    }
    if (type >= kGgufTypeCount) return unknown_type(key, type);
    return any_integer(key, type);
  }

  // Reads `count` elements, each with `read`, into a vector. That they can fit was checked.
  template <class T, class Read>
  Result<void> elements(const std::string& key, std::uint64_t count, Read read) {
    std::vector<T> values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      KRAIT_ASSIGN(auto value, read());
      values.push_back(std::move(value));
    }
    return store(key, std::move(values));
  }

  Result<void> array(const std::string& key, int depth) {
    const auto type = cursor_.read<std::uint32_t>();
    const auto count = type ? cursor_.read<std::uint64_t>() : std::nullopt;
    if (!count) return cut_short(key);
    if (*type >= kGgufTypeCount) return unknown_type(key, *type);
    if (*count > cursor_.remaining() / kMinimumBytes[*type]) {
      return fail(ErrorCode::kCorrupt, "[gguf] metadata \"{}\" is an array of {} elements, {} bytes remain ({})", key,
                  *count, cursor_.remaining(), config_.origin());
    }
    switch (*type) {
      case kGgufFloat32:
      case kGgufFloat64: return elements<double>(key, *count, [&] { return number(key, *type); });
      case kGgufBool: return elements<bool>(key, *count, [&] { return boolean(key); });
      case kGgufString: return elements<std::string>(key, *count, [&] { return text(key); });
      case kGgufArray: break;
      default: return elements<std::int64_t>(key, *count, [&] { return any_integer(key, *type); });
    }
    if (depth == kMaximumNesting) {
      return fail(ErrorCode::kUnsupported, "[gguf] metadata \"{}\" has arrays nested deeper than {} ({})", key,
                  kMaximumNesting, config_.origin());
    }
    for (std::uint64_t i = 0; i < *count; ++i) {
      const std::string inner = fmt::format("{}.{}", key, i);
      nested_key_bytes_ += inner.size();
      if (nested_key_bytes_ > kMaximumNestedKeyBytes) {
        return fail(ErrorCode::kUnsupported,
                    "[gguf] metadata \"{}\" has nested arrays with keys of more than {} bytes ({})", key,
                    kMaximumNestedKeyBytes, config_.origin());
      }
      KRAIT_TRY(array(inner, depth + 1));
    }
    return {};
  }

  ByteCursor cursor_;
  Config& config_;
  std::size_t nested_key_bytes_ = 0;
};

}  // namespace

Result<GgufHeader> parse_gguf_header(std::span<const std::byte> file, const std::string& origin) {
  ByteCursor cursor(file);
  if (cursor.take_text(4) != "GGUF")
    return fail(ErrorCode::kCorrupt, "[gguf] does not begin with \"GGUF\" ({})", origin);
  const auto version = cursor.read<std::uint32_t>();
  if (version && (*version & 0xffffU) == 0 && *version != 0) {
    return fail(ErrorCode::kUnsupported, "[gguf] file is big-endian, krait reads little-endian ones ({})", origin);
  }
  if (version && *version != 2 && *version != 3) {
    return fail(ErrorCode::kUnsupported, "[gguf] version {} is neither 2 nor 3 ({})", *version, origin);
  }
  const auto tensors = cursor.read<std::uint64_t>();
  const auto pairs = cursor.read<std::uint64_t>();
  if (!version || !tensors || !pairs) {
    return fail(ErrorCode::kCorrupt, "[gguf] file ends within its header: {} bytes ({})", file.size(), origin);
  }
  if (*pairs > cursor.remaining() / kMinimumPair) {
    return fail(ErrorCode::kCorrupt, "[gguf] {} pairs of metadata cannot stand in {} bytes ({})", *pairs,
                cursor.remaining(), origin);
  }
  GgufHeader header{.metadata = Config(origin), .tensors = *tensors, .end = 0};
  MetadataReader reader(cursor, header.metadata);
  for (std::uint64_t i = 0; i < *pairs; ++i) KRAIT_TRY(reader.pair());
  header.end = reader.position();
  if (header.tensors > (file.size() - header.end) / kMinimumTensor) {
    return fail(ErrorCode::kCorrupt, "[gguf] {} tensors cannot be described in {} bytes ({})", header.tensors,
                file.size() - header.end, origin);
  }
  return header;
}

Result<Config> parse_gguf_metadata(std::span<const std::byte> file, const std::string& origin) {
  KRAIT_ASSIGN(GgufHeader header, parse_gguf_header(file, origin));
  return std::move(header.metadata);
}

}  // namespace krait::formats
