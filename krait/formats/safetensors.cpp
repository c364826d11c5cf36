#include "krait/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "krait/formats/mapped_file.h"
#include "krait/formats/weight_source_table.h"

namespace krait::formats {
namespace {

constexpr std::pair<std::string_view, DType> kDTypes[] = {
    {"F64", DType::kF64},        {"F32", DType::kF32},        {"F16", DType::kF16},  {"BF16", DType::kBF16},
    {"F8_E4M3", DType::kF8E4M3}, {"F8_E5M2", DType::kF8E5M2}, {"I64", DType::kI64},  {"I32", DType::kI32},
    {"I16", DType::kI16},        {"I8", DType::kI8},          {"U64", DType::kU64},  {"U32", DType::kU32},
    {"U16", DType::kU16},        {"U8", DType::kU8},          {"BOOL", DType::kBool}};

struct HeaderEntry {
  std::string name;
  std::string dtype;
  Shape shape;
  std::vector<std::uint64_t> offsets;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

// Receives the events of the JSON parser; knows at every depth what may come, so that memory stays proportional to
// the header and nothing unexpected is kept. Every method returns whether to go on.
//   depth 1: tensor names; depth 2: their fields, or the texts of __metadata__; depth 3: the numbers of an array
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<HeaderEntry> take() { return std::move(entries_); }
  std::map<std::string, std::string> take_metadata() { return std::move(metadata_); }
  const std::string& problem() const { return problem_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_float(double, const std::string& spelling) override { return unexpected(spelling); }
  bool binary(nlohmann::json::binary_t&) override { return unexpected("binary data"); }
  bool number_integer(std::int64_t value) override { return unexpected(std::to_string(value)); }

  bool number_unsigned(std::uint64_t value) override {
    if (depth_ != 3) return unexpected(std::to_string(value));
    HeaderEntry& entry = entries_.back();
    if (field_ == "data_offsets") {
      if (entry.offsets.size() == 2) return stop("tensor \"{}\" has more than two data_offsets", entry.name);
      entry.offsets.push_back(value);
    } else {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return stop("tensor \"{}\" has a dimension of {}, which overflows", entry.name, value);
      }
      entry.shape.push_back(static_cast<std::int64_t>(value));
    }
    return true;
  }

  bool string(std::string& value) override {
    if (depth_ == 2 && in_metadata_) {
      metadata_[field_] = std::move(value);
      return true;
    }
    if (depth_ != 2 || field_ != "dtype") return unexpected("a text");
    entries_.back().dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ > 1) return unexpected("an object");
    ++depth_;
    return true;
  }

  bool key(std::string& name) override {
    if (depth_ == 1) {
      if (!names_.insert(name).second) return stop("tensor \"{}\" is there twice", name);
      in_metadata_ = name == "__metadata__";
      if (!in_metadata_) entries_.emplace_back().name = std::move(name);
      return true;
    }
    field_ = std::move(name);
    if (in_metadata_) return true;
    HeaderEntry& entry = entries_.back();
    bool* seen = field_ == "dtype"          ? &entry.has_dtype
                 : field_ == "shape"        ? &entry.has_shape
                 : field_ == "data_offsets" ? &entry.has_offsets
                                            : nullptr;
    if (seen == nullptr) return stop("tensor \"{}\" has an unknown field \"{}\"", entry.name, field_);
    if (std::exchange(*seen, true)) return stop("tensor \"{}\" has the field \"{}\" twice", entry.name, field_);
    return true;
  }

  bool end_object() override {
    --depth_;
    if (depth_ != 1 || std::exchange(in_metadata_, false)) return true;
    const HeaderEntry& entry = entries_.back();
    if (entry.has_dtype && entry.has_shape && entry.offsets.size() == 2) return true;
    return stop("tensor \"{}\" lacks its dtype, its shape or two data_offsets", entry.name);
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || field_ == "dtype") return unexpected("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    return stop("header is not JSON at byte {}: {:.200}", position, error.what());
  }

 private:
  template <class... Args>
  bool stop(fmt::format_string<Args...> format, Args&&... args) {
    problem_ = fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  bool unexpected(std::string_view what) {
    if (depth_ == 0) return stop("header is {}, not an object", what);
    if (in_metadata_) return stop("\"__metadata__\" holds {} where only texts may stand", what);
    if (depth_ == 1) return stop("tensor \"{}\" is described by {}, not by an object", entries_.back().name, what);
    return stop("tensor \"{}\" has {} in its field \"{}\"", entries_.back().name, what, field_);
  }

  std::vector<HeaderEntry> entries_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
  std::string field_;
  int depth_ = 0;
  bool in_metadata_ = false;
  std::string problem_;
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// One tensor: its dtype, its shape and its range must agree and lie within the data.
Result<WeightEntry> check_entry(HeaderEntry header, std::span<const std::byte> data, const std::string& origin) {
  const std::uint64_t begin = header.offsets[0];
  const std::uint64_t end = header.offsets[1];
  const auto dtype = parse_safetensors_dtype(header.dtype);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported, "[safetensors] tensor \"{}\" has dtype \"{}\", which krait does not read ({})",
                header.name, header.dtype, origin);
  }
  const auto elements = element_count(header.shape);
  const auto wanted = elements ? bytes_for(*dtype, *elements) : std::nullopt;
  if (!wanted) {
    return fail(ErrorCode::kCorrupt, "[safetensors] tensor \"{}\": the size of shape {} overflows ({})", header.name,
                to_string(header.shape), origin);
  }
  if (begin > end || end > data.size()) {
    return fail(ErrorCode::kCorrupt,
                "[safetensors] tensor \"{}\" has data_offsets [{}, {}], the data has {} bytes ({})", header.name, begin,
                end, data.size(), origin);
  }
  if (end - begin != *wanted) {
    return fail(ErrorCode::kCorrupt,
                "[safetensors] tensor \"{}\" of shape {} and dtype {} takes {} bytes, its data_offsets [{}, {}] hold "
                "{} ({})",
                header.name, to_string(header.shape), header.dtype, *wanted, begin, end, end - begin, origin);
  }
  WeightEntry entry;
  entry.info = {std::move(header.name), *dtype, std::move(header.shape), *wanted};
  entry.bytes = data.subspan(begin, end - begin);
  return entry;
}

// Sorted by place in the file, each tensor must begin where the one before it ends, and the last at the end.
Result<void> check_coverage(const std::vector<WeightEntry>& entries, std::span<const std::byte> data,
                            const std::string& origin) {
  std::vector<const WeightEntry*> by_place;
  for (const WeightEntry& entry : entries) by_place.push_back(&entry);
  std::ranges::sort(by_place, {},
                    [](const WeightEntry* entry) { return std::pair(entry->bytes.data(), entry->bytes.size()); });
  const std::byte* reached = data.data();
  const WeightEntry* before = nullptr;
  for (const WeightEntry* entry : by_place) {
    const std::byte* begin = entry->bytes.data();
    if (begin < reached) {
      return fail(ErrorCode::kCorrupt, "[safetensors] tensor \"{}\" overlaps tensor \"{}\": {} < {} ({})",
                  entry->info.name, before->info.name, begin - data.data(), reached - data.data(), origin);
    }
    if (begin > reached) {
      return fail(ErrorCode::kCorrupt,
                  "[safetensors] tensor \"{}\" begins at {} but the data before it ends at {}: the format allows no "
                  "holes ({})",
                  entry->info.name, begin - data.data(), reached - data.data(), origin);
    }
    reached = begin + entry->bytes.size();
    before = entry;
  }
  const auto covered = static_cast<std::size_t>(reached - data.data());
  if (covered != data.size()) {
    return fail(ErrorCode::kCorrupt,
                "[safetensors] tensors end at {} of {} bytes of data: the format allows no holes ({})", covered,
                data.size(), origin);
  }
  return {};
}

// Reads the header into `reader` and gives the data behind it.
Result<std::span<const std::byte>> parse_header(std::span<const std::byte> file, const std::string& origin,
                                                HeaderReader& reader) {
  constexpr std::size_t kLengthBytes = 8;
  if (file.size() < kLengthBytes) {
    return fail(ErrorCode::kCorrupt, "[safetensors] file is too short for its header length: {} < {} bytes ({})",
                file.size(), kLengthBytes, origin);
  }
  std::uint64_t header_bytes = 0;
  static_assert(std::endian::native == std::endian::little, "tensor data is viewed in place");
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  if (header_bytes > kSafetensorsMaximumHeader) {
    return fail(ErrorCode::kCorrupt, "[safetensors] header is larger than the format allows: {} > {} bytes ({})",
                header_bytes, kSafetensorsMaximumHeader, origin);
  }
  if (header_bytes > file.size() - kLengthBytes) {
    return fail(ErrorCode::kCorrupt, "[safetensors] header ends past the file: {} > {} ({})",
                header_bytes + kLengthBytes, file.size(), origin);
  }
  const std::string_view header = as_text(file.subspan(kLengthBytes, header_bytes));
  if (!header.starts_with('{')) {
    return fail(ErrorCode::kCorrupt, "[safetensors] header does not begin with '{{' ({})", origin);
  }
  if (!nlohmann::json::sax_parse(header, &reader)) {
    return fail(ErrorCode::kCorrupt, "[safetensors] {} ({})", reader.problem(), origin);
  }
  return file.subspan(kLengthBytes + header_bytes);
}

Result<std::vector<WeightEntry>> parse_entries(std::span<const std::byte> file, const std::string& origin) {
  HeaderReader reader;
  KRAIT_ASSIGN(const std::span<const std::byte> data, parse_header(file, origin, reader));
  std::vector<WeightEntry> entries;
  for (HeaderEntry& header_entry : reader.take()) {
    KRAIT_ASSIGN(WeightEntry entry, check_entry(std::move(header_entry), data, origin));
    entries.push_back(std::move(entry));
  }
  KRAIT_TRY(check_coverage(entries, data, origin));
  return entries;
}

}  // namespace

std::string_view safetensors_dtype_name(DType dtype) {
  for (const auto& [name, known] : kDTypes) {
    if (known == dtype) return name;
  }
  return {};
}

std::optional<DType> parse_safetensors_dtype(std::string_view name) {
  for (const auto& [known, dtype] : kDTypes) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

Result<std::map<std::string, std::string>> parse_safetensors_metadata(std::span<const std::byte> file,
                                                                      const std::string& origin) {
  HeaderReader reader;
  KRAIT_TRY(parse_header(file, origin, reader));
  return reader.take_metadata();
}

Result<std::unique_ptr<WeightSource>> parse_safetensors(std::span<const std::byte> file, const std::string& origin,
                                                        Config config) {
  KRAIT_ASSIGN(auto entries, parse_entries(file, origin));
  return WeightTable::create({.format = "safetensors",
                              .origin = origin,
                              .config = std::move(config),
                              .entries = std::move(entries),
                              .file = {},
                              .buffers = {}});
}

Result<std::unique_ptr<WeightSource>> open_safetensors(const std::filesystem::path& path, Config config) {
  KRAIT_ASSIGN(MappedFile file, MappedFile::open(path));
  KRAIT_ASSIGN(auto entries, parse_entries(file.bytes(), file.name()));
  return WeightTable::create({.format = "safetensors",
                              .origin = file.name(),
                              .config = std::move(config),
                              .entries = std::move(entries),
                              .file = std::move(file),
                              .buffers = {}});
}

}  // namespace krait::formats
