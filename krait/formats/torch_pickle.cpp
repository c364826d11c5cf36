#include "krait/formats/torch_pickle.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/torch_pickle_machine.h"
#include "krait/formats/weight_source_table.h"
#include "krait/formats/zip_directory.h"

namespace krait::formats {
namespace {

// The highest version of the archive that PyTorch's own reader knows; what it changed so far does not concern tensors.
constexpr int kNewestVersion = 10;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

class Archive {
 public:
  static Result<Archive> open(std::span<const std::byte> file, const std::string& origin);

  // The entry of that name below the archive's one top folder.
  std::optional<std::span<const std::byte>> entry(std::string_view name) const {
    const auto found = entries_.find(folder_ + std::string(name));
    if (found == entries_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::string folder_;  // with its slash
  std::map<std::string, std::span<const std::byte>> entries_;
};

Result<Archive> Archive::open(std::span<const std::byte> file, const std::string& origin) {
  if (!as_text(file).starts_with("PK")) {
    return fail(ErrorCode::kUnsupported,
                "[torch] not a ZIP archive: files of PyTorch before 1.6 must be loaded and saved again ({})", origin);
  }
  KRAIT_ASSIGN(auto entries, parse_zip_directory(file, origin));
  Archive archive;
  constexpr std::string_view kPickle = "data.pkl";
  for (ZipEntry& entry : entries) {
    const std::size_t slash = entry.name.find('/');
    if (slash != std::string::npos && std::string_view(entry.name).substr(slash + 1) == kPickle) {
      if (!archive.folder_.empty()) {
        return fail(ErrorCode::kCorrupt, "[torch] two pickles, \"{}{}\" and \"{}\" ({})", archive.folder_, kPickle,
                    entry.name, origin);
      }
      archive.folder_ = entry.name.substr(0, slash + 1);
    }
    archive.entries_.emplace(std::move(entry.name), entry.bytes);
  }
  if (archive.folder_.empty()) return fail(ErrorCode::kCorrupt, "[torch] no data.pkl in the archive ({})", origin);

  // PyTorch wrote no byteorder before version 2.1; files without it come from little-endian machines.
  const auto byteorder = archive.entry("byteorder");
  if (byteorder && as_text(*byteorder) != "little") {
    return fail(ErrorCode::kUnsupported, "[torch] byteorder is \"{:.20}\", krait reads \"little\" ({})",
                as_text(*byteorder), origin);
  }
  const auto version = archive.entry("version");
  if (!version) return fail(ErrorCode::kCorrupt, "[torch] no version in the archive ({})", origin);
  const std::string_view text = as_text(*version);
  int number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || number < 1 || number > kNewestVersion) {
    return fail(ErrorCode::kUnsupported, "[torch] version is \"{:.20}\", krait reads 1 to {} ({})", text,
                kNewestVersion, origin);
  }
  return archive;
}

bool is_contiguous(const PickledTensor& tensor) {
  std::int64_t expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] == 1) continue;
    if (tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// One more than the index of the last element within the storage; nothing when it overflows. No dimension is zero.
std::optional<std::int64_t> reach(const PickledTensor& tensor) {
  std::int64_t last = tensor.offset;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::int64_t span = 0;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &span) ||
        __builtin_add_overflow(last, span, &last)) {
      return std::nullopt;
    }
  }
  if (last == std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  return last + 1;
}

// Copies the elements of a strided tensor in row-major order. Every index was checked by reach().
void gather(const PickledTensor& tensor, std::span<const std::byte> storage, std::span<std::byte> out) {
  const auto element = static_cast<std::size_t>(info(tensor.dtype).bytes_per_block);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::int64_t from = tensor.offset;
  for (std::size_t to = 0; to < out.size(); to += element) {
    std::memcpy(out.data() + to, storage.data() + static_cast<std::size_t>(from) * element, element);
    for (std::size_t i = index.size(); i-- > 0;) {
      from += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      from -= tensor.shape[i] * tensor.strides[i];
      index[i] = 0;
    }
  }
}

struct Contents {
  std::vector<WeightEntry> entries;
  std::vector<AlignedBuffer> buffers;
};

Result<WeightEntry> place(PickledTensor tensor, const Archive& archive, std::size_t file_bytes, std::size_t& copied,
                          std::vector<AlignedBuffer>& buffers, const std::string& origin) {
  const auto storage = archive.entry("data/" + std::string(tensor.storage_key));
  if (!storage) {
    return fail(ErrorCode::kCorrupt, "[torch] tensor \"{}\" lies in storage \"{}\", which the archive lacks ({})",
                tensor.name, tensor.storage_key, origin);
  }
  if (bytes_for(tensor.dtype, tensor.storage_elements) != storage->size()) {
    return fail(ErrorCode::kCorrupt, "[torch] tensor \"{}\": storage \"{}\" of {} {} elements has {} bytes ({})",
                tensor.name, tensor.storage_key, tensor.storage_elements, to_string(tensor.dtype), storage->size(),
                origin);
  }
  const auto elements = element_count(tensor.shape);
  const auto bytes = elements ? bytes_for(tensor.dtype, *elements) : std::nullopt;
  if (!bytes) {
    return fail(ErrorCode::kCorrupt, "[torch] tensor \"{}\": the size of shape {} overflows ({})", tensor.name,
                to_string(tensor.shape), origin);
  }
  WeightEntry entry;
  entry.info = {std::string(tensor.name), tensor.dtype, tensor.shape, *bytes};
  if (*elements == 0) return entry;
  const auto end = reach(tensor);
  if (!end || *end > tensor.storage_elements) {
    return fail(ErrorCode::kCorrupt,
                "[torch] tensor \"{}\" of shape {}, strides {} and offset {} ends past its storage \"{}\" of {} "
                "elements ({})",
                tensor.name, to_string(tensor.shape), to_string(tensor.strides), tensor.offset, tensor.storage_key,
                tensor.storage_elements, origin);
  }
  const auto element = static_cast<std::size_t>(info(tensor.dtype).bytes_per_block);
  if (is_contiguous(tensor)) {
    entry.bytes = storage->subspan(static_cast<std::size_t>(tensor.offset) * element, *bytes);
    return entry;
  }
  // A transposed tensor is as large as its storage. One with stride 0 can be any size out of a few bytes: all copies
  // together may take what the file takes, no more.
  if (*bytes > file_bytes - copied) {
    return fail(ErrorCode::kResourceExhausted,
                "[torch] tensor \"{}\" of shape {} and strides {}: strided tensors take more memory than the file has "
                "bytes ({}) ({})",
                tensor.name, to_string(tensor.shape), to_string(tensor.strides), file_bytes, origin);
  }
  copied += *bytes;
  AlignedBuffer& buffer = buffers.emplace_back(*bytes);
  gather(tensor, *storage, {buffer.data(), buffer.size()});
  entry.bytes = {buffer.data(), buffer.size()};
  return entry;
}

Result<Contents> parse_contents(std::span<const std::byte> file, const std::string& origin) {
  KRAIT_ASSIGN(const Archive archive, Archive::open(file, origin));
  KRAIT_ASSIGN(auto tensors, read_state_dict_pickle(*archive.entry("data.pkl"), origin));
  Contents contents;
  std::size_t copied = 0;
  for (PickledTensor& tensor : tensors) {
    KRAIT_ASSIGN(WeightEntry entry, place(std::move(tensor), archive, file.size(), copied, contents.buffers, origin));
    contents.entries.push_back(std::move(entry));
  }
  return contents;
}

}  // namespace

Result<std::unique_ptr<WeightSource>> parse_torch_pickle(std::span<const std::byte> file, const std::string& origin,
                                                         Config config) {
  KRAIT_ASSIGN(Contents contents, parse_contents(file, origin));
  return WeightTable::create({.format = "torch",
                              .origin = origin,
                              .config = std::move(config),
                              .entries = std::move(contents.entries),
                              .file = {},
                              .buffers = std::move(contents.buffers)});
}

Result<std::unique_ptr<WeightSource>> open_torch_pickle(const std::filesystem::path& path, Config config) {
  KRAIT_ASSIGN(MappedFile file, MappedFile::open(path));
  KRAIT_ASSIGN(Contents contents, parse_contents(file.bytes(), file.name()));
  return WeightTable::create({.format = "torch",
                              .origin = file.name(),
                              .config = std::move(config),
                              .entries = std::move(contents.entries),
                              .file = std::move(file),
                              .buffers = std::move(contents.buffers)});
}

}  // namespace krait::formats
