#include "krait/formats/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <ranges>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/formats/atomic_file.h"
#include "krait/formats/gguf_types.h"
#include "krait/formats/tokenizer_utf8.h"

namespace krait::formats {
namespace {

// A tensor's name has room for 64 bytes in ggml's structure, with the zero that ends it.
constexpr std::size_t kLongestTensorName = 63;
constexpr std::size_t kLongestKey = 65535;
constexpr std::int64_t kLargestAlignment = std::int64_t{1} << 20;
// Vocabularies take megabytes; readers hold the header in memory.
constexpr std::size_t kLargestHeader = std::size_t{1} << 31;

template <class T>
bool holds(std::int64_t value) {
  return std::in_range<T>(value);
}

class HeaderWriter {
 public:
  explicit HeaderWriter(const std::string& origin) : origin_(origin) {}

  template <class T>
  void put(T value) {
    static_assert(std::endian::native == std::endian::little);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void raw(std::string_view text) { bytes_.append(text); }
  Result<void> text(std::string_view text) {
    if (valid_utf8_end(text, 0) != text.size()) {
      return fail(ErrorCode::kInvalidArgument, "[gguf] a text of {} bytes is not UTF-8 ({})", text.size(), origin_);
    }
    put<std::uint64_t>(text.size());
    raw(text);
    return {};
  }

  Result<void> pair(const std::string& key, const Config::Value& value) {
    if (key.empty() || key.size() > kLongestKey) {
      return fail(ErrorCode::kInvalidArgument, "[gguf] a key of metadata has {} bytes: 1 to {} are possible ({})",
                  key.size(), kLongestKey, origin_);
    }
    KRAIT_TRY(text(key));
    auto written = std::visit([this](const auto& kind) { return this->value(kind); }, value);
    if (written) return {};
    return fail(written.error().code, "{} (metadata \"{}\")", written.error().message, key);
  }

  std::string& bytes() { return bytes_; }

 private:
  Result<void> value(std::monostate) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] the format has no null ({})", origin_);
  }
  Result<void> value(bool value) {
    put(kGgufBool);
    put<std::uint8_t>(value ? 1 : 0);
    return {};
  }
  Result<void> value(std::int64_t value) {
    if (holds<std::uint32_t>(value)) {
      put(kGgufUint32);
      put(static_cast<std::uint32_t>(value));
    } else if (holds<std::int32_t>(value)) {
      put(kGgufInt32);
      put(static_cast<std::int32_t>(value));
    } else {
      put(kGgufInt64);
      put(value);
    }
    return {};
  }
  Result<void> value(double value) {
    put(kGgufFloat32);
    return single(value);
  }
  Result<void> value(const std::string& value) {
    put(kGgufString);
    return text(value);
  }
  Result<void> value(const std::vector<std::int64_t>& values) {
    const bool narrow = std::ranges::all_of(values, holds<std::int32_t>);
    array(narrow ? kGgufInt32 : kGgufInt64, values.size());
    for (const std::int64_t value : values) {
      if (narrow) {
        put(static_cast<std::int32_t>(value));
      } else {
        put(value);
      }
    }
    return {};
  }
  Result<void> value(const std::vector<double>& values) {
    array(kGgufFloat32, values.size());
    for (const double value : values) KRAIT_TRY(single(value));
    return {};
  }
  Result<void> value(const std::vector<bool>& values) {
    array(kGgufBool, values.size());
    for (const bool value : values) put<std::uint8_t>(value ? 1 : 0);
    return {};
  }
  Result<void> value(const std::vector<std::string>& values) {
    array(kGgufString, values.size());
    for (const std::string& value : values) KRAIT_TRY(text(value));
    return {};
  }

  void array(GgufType type, std::size_t count) {
    put(kGgufArray);
    put(type);
    put<std::uint64_t>(count);
  }
  Result<void> single(double value) {
    if (std::isfinite(value) && std::abs(value) > static_cast<double>(std::numeric_limits<float>::max())) {
      return fail(ErrorCode::kInvalidArgument, "[gguf] {} is more than a float holds ({})", value, origin_);
    }
    put(static_cast<float>(value));
    return {};
  }

  std::string bytes_;
  const std::string& origin_;
};

Result<std::uint64_t> alignment_of(const Config& metadata, const std::string& origin) {
  KRAIT_ASSIGN(const std::int64_t alignment, metadata.integer_or("general.alignment", kGgufDefaultAlignment));
  if (alignment <= 0 || alignment > kLargestAlignment || !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] general.alignment is {}, not a power of two up to {} ({})",
                alignment, kLargestAlignment, origin);
  }
  return static_cast<std::uint64_t>(alignment);
}

// Bytes from `size` to the next multiple.
std::uint64_t padding(std::uint64_t size, std::uint64_t alignment) {
  return (alignment - size % alignment) % alignment;
}

Result<void> check(const TensorInfo& tensor, const std::string& origin) {
  const auto& [name, dtype, shape, bytes] = tensor;
  if (tensor.name.empty() || tensor.name.size() > kLongestTensorName) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] tensor \"{}\" has a name of {} bytes: 1 to {} are possible ({})",
                tensor.name, tensor.name.size(), kLongestTensorName, origin);
  }
  if (!gguf_type_number(dtype)) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] tensor \"{}\": the format has no dtype {} ({})", tensor.name,
                to_string(dtype), origin);
  }
  if (shape.size() > kGgufMaximumDimensions) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] tensor \"{}\" has {} dimensions, more than {} ({})", tensor.name,
                shape.size(), kGgufMaximumDimensions, origin);
  }
  const std::int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info(dtype).elements_per_block != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "[gguf] tensor \"{}\" has rows of {} elements, not whole blocks of {} ({})", tensor.name, row,
                info(dtype).elements_per_block, origin);
  }
  const auto elements = element_count(shape);
  const auto wanted = elements ? bytes_for(dtype, *elements) : std::nullopt;
  if (wanted != bytes) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] tensor \"{}\" of shape {} and dtype {} comes with {} bytes ({})",
                tensor.name, to_string(shape), to_string(dtype), bytes, origin);
  }
  return {};
}

Result<void> check(std::span<const TensorInfo> tensors, const std::string& origin) {
  std::set<std::string_view> names;
  for (const TensorInfo& tensor : tensors) {
    KRAIT_TRY(check(tensor, origin));
    if (!names.insert(tensor.name).second) {
      return fail(ErrorCode::kInvalidArgument, "[gguf] tensor \"{}\" is given twice ({})", tensor.name, origin);
    }
  }
  return {};
}

// All before the data, padded to where it begins.
Result<std::string> header_of(std::span<const TensorInfo> tensors, const Config& metadata, std::uint64_t alignment,
                              const std::string& origin) {
  HeaderWriter header(origin);
  header.raw("GGUF");
  header.put<std::uint32_t>(3);
  header.put<std::uint64_t>(tensors.size());
  header.put<std::uint64_t>(metadata.values().size());
  for (const auto& [key, value] : metadata.values()) KRAIT_TRY(header.pair(key, value));
  std::uint64_t place = 0;
  for (const auto& [name, dtype, shape, bytes] : tensors) {
    KRAIT_TRY(header.text(name));
    header.put(static_cast<std::uint32_t>(shape.size()));
    // GGUF names the contiguous dimension first.
    for (const std::int64_t dimension : shape | std::views::reverse) header.put(dimension);
    header.put(*gguf_type_number(dtype));
    header.put(place);
    place += bytes + padding(bytes, alignment);
  }
  std::string& bytes = header.bytes();
  bytes.append(padding(bytes.size(), alignment), '\0');
  if (bytes.size() > kLargestHeader) {
    return fail(ErrorCode::kInvalidArgument, "[gguf] header is larger than readers take: {} > {} ({})", bytes.size(),
                kLargestHeader, origin);
  }
  return std::move(bytes);
}

Result<void> write(const std::filesystem::path& path, TensorQueue queue, const Config& metadata) {
  const std::string origin = path.string();
  const std::span<const TensorInfo> tensors = queue.tensors();
  KRAIT_TRY(check(tensors, origin));
  KRAIT_ASSIGN(const std::uint64_t alignment, alignment_of(metadata, origin));
  KRAIT_ASSIGN(const std::string header, header_of(tensors, metadata, alignment, origin));
  const std::string zeros(alignment, '\0');
  AtomicFile file(path);
  file.write(header.data(), header.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    KRAIT_TRY(queue.write(i, file));
    file.write(zeros.data(), padding(tensors[i].bytes, alignment));
  }
  return file.commit("gguf");
}

}  // namespace

Result<void> write_gguf(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                        const Config& metadata) {
  return write(path, TensorQueue(tensors), metadata);
}

Result<void> write_gguf(const std::filesystem::path& path, const WeightSource& source, const Config& metadata,
                        WriteProgress progress) {
  return write(path, TensorQueue(source, std::move(progress)), metadata);
}

Result<void> write_gguf(const std::filesystem::path& path, const WeightSource& source) {
  return write_gguf(path, source, source.config());
}

}  // namespace krait::formats
