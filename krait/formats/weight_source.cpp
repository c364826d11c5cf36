// Finds out which format a checkpoint has and opens it; converts the elements of a tensor to f32.
#include "krait/formats/weight_source.h"

#include <algorithm>
#include <cstring>
#include <system_error>

#include "krait/formats/gguf.h"
#include "krait/formats/gguf_dequantize.h"
#include "krait/formats/mapped_file.h"
#include "krait/formats/safetensors.h"
#include "krait/formats/torch_pickle.h"
#include "krait/formats/weight_source_sharded.h"

namespace krait::formats {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// config.json, else params.json, in `directory`.
Result<Config> read_config(const fs::path& directory) {
  for (const char* name : {"config.json", "params.json"}) {
    if (!is_there(directory / name)) continue;
    KRAIT_ASSIGN(const MappedFile file, MappedFile::open(directory / name));
    return Config::parse_json({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, file.name());
  }
  return fail(ErrorCode::kNotFound, "[weights] no config.json and no params.json in \"{}\"", directory.string());
}

// The files in `directory` with that extension, sorted.
Result<std::vector<fs::path>> files_with_extension(const fs::path& directory, std::string_view extension) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == extension) found.push_back(it->path());
  }
  if (error) {
    return fail(ErrorCode::kInputOutput, "[weights] cannot list \"{}\": {}", directory.string(), error.message());
  }
  std::ranges::sort(found);
  return found;
}

Result<std::unique_ptr<WeightSource>> open_safetensors_shards(const fs::path& index, Config config) {
  return open_sharded(index, std::move(config),
                      [](const fs::path& shard) { return open_safetensors(shard, Config()); });
}

Result<std::unique_ptr<WeightSource>> open_torch_shards(const fs::path& index, Config config) {
  return open_sharded(index, std::move(config),
                      [](const fs::path& shard) { return open_torch_pickle(shard, Config()); });
}

Result<std::unique_ptr<WeightSource>> open_directory(const fs::path& directory) {
  if (is_there(directory / "model.safetensors.index.json")) {
    KRAIT_ASSIGN(Config config, read_config(directory));
    return open_safetensors_shards(directory / "model.safetensors.index.json", std::move(config));
  }
  if (is_there(directory / "model.safetensors")) {
    KRAIT_ASSIGN(Config config, read_config(directory));
    return open_safetensors(directory / "model.safetensors", std::move(config));
  }
  KRAIT_ASSIGN(const auto others, files_with_extension(directory, ".safetensors"));
  if (others.size() > 1) {
    return fail(ErrorCode::kNotFound,
                "[weights] {} safetensors files but no model.safetensors.index.json that joins them, such as \"{}\"",
                others.size(), others.front().string());
  }
  if (others.size() == 1) {
    KRAIT_ASSIGN(Config config, read_config(directory));
    return open_safetensors(others.front(), std::move(config));
  }
  if (is_there(directory / "pytorch_model.bin.index.json")) {
    KRAIT_ASSIGN(Config config, read_config(directory));
    return open_torch_shards(directory / "pytorch_model.bin.index.json", std::move(config));
  }
  if (is_there(directory / "pytorch_model.bin")) {
    KRAIT_ASSIGN(Config config, read_config(directory));
    return open_torch_pickle(directory / "pytorch_model.bin", std::move(config));
  }
  KRAIT_ASSIGN(const auto ggufs, files_with_extension(directory, ".gguf"));
  if (ggufs.size() > 1) {
    return fail(ErrorCode::kInvalidArgument, "[weights] {} gguf files in \"{}\": name one of them", ggufs.size(),
                directory.string());
  }
  if (ggufs.size() == 1) return open_gguf(ggufs.front());
  return fail(ErrorCode::kNotFound, "[weights] neither *.safetensors nor pytorch_model.bin nor *.gguf in \"{}\"",
              directory.string());
}

template <class Stored, class Convert>
void convert(std::span<const std::byte> bytes, std::span<float> out, Convert to_float) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);  // the file need not align it
    out[i] = to_float(value);
  }
}

template <class Stored>
void convert(std::span<const std::byte> bytes, std::span<float> out) {
  convert<Stored>(bytes, out, [](Stored value) { return static_cast<float>(value); });
}

}  // namespace

const TensorInfo* WeightSource::find(std::string_view name) const {
  const std::span<const TensorInfo> all = tensors();
  const auto found = std::ranges::lower_bound(all, name, {}, &TensorInfo::name);
  return found != all.end() && found->name == name ? &*found : nullptr;
}

Result<void> WeightSource::read_rows(const TensorInfo& tensor, std::int64_t first, std::int64_t count,
                                     std::span<float> out) const {
  KRAIT_ASSIGN(TensorView whole, view(tensor.name));
  const std::int64_t columns = whole.shape.empty() ? 1 : whole.shape.back();
  const std::int64_t elements = element_count(whole.shape).value_or(0);
  const std::int64_t rows = columns > 0 ? elements / columns : 0;
  const auto row_bytes = bytes_for(whole.dtype, columns);
  if (!row_bytes || first < 0 || count < 0 || first + count > rows) {
    return fail(ErrorCode::kInvalidArgument, "[weights] rows {} + {} of tensor {} of shape {} and dtype {}", first,
                count, tensor.name, to_string(whole.shape), to_string(whole.dtype));
  }
  const auto bytes =
      whole.bytes.subspan(static_cast<std::size_t>(first) * *row_bytes, static_cast<std::size_t>(count) * *row_bytes);
  return read_as_f32({whole.dtype, {count, columns}, bytes}, out);
}

Result<std::unique_ptr<WeightSource>> open_weights(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status))
    return fail(ErrorCode::kNotFound, "[weights] no such file or directory: \"{}\"", path.string());
  if (fs::is_directory(status)) return open_directory(path);
  const std::string extension = path.extension().string();
  if (extension == ".gguf") return open_gguf(path);
  if (extension == ".safetensors") {
    KRAIT_ASSIGN(Config config, read_config(path.parent_path()));
    return open_safetensors(path, std::move(config));
  }
  if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
    auto config = read_config(path.parent_path());
    if (!config && config.error().code == ErrorCode::kNotFound) config = Config(path.string());
    if (!config) return std::unexpected(std::move(config).error());
    return open_torch_pickle(path, *std::move(config));
  }
  return fail(ErrorCode::kUnsupported, "[weights] \"{}\" is none of *.safetensors, *.gguf, *.bin, *.pt, *.pth",
              path.string());
}

Result<CheckpointOutline> read_outline(const fs::path& directory) {
  KRAIT_ASSIGN(Config config, read_config(directory));
  CheckpointOutline outline{std::move(config), {}};
  for (const char* name : {"model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
    if (!is_there(directory / name)) continue;
    KRAIT_ASSIGN(const MappedFile file, MappedFile::open(directory / name));
    const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
    KRAIT_ASSIGN(const auto shards, parse_shard_index(text, file.name()));
    for (const auto& [tensor, shard] : shards) outline.names.push_back(tensor);
    break;
  }
  return outline;
}

Result<void> read_as_f32(const TensorView& view, std::span<float> out) {
  const auto elements = element_count(view.shape);
  const auto bytes = elements ? bytes_for(view.dtype, *elements) : std::nullopt;
  if (bytes != view.bytes.size()) {
    return fail(ErrorCode::kInvalidArgument, "[weights] a view of shape {} and dtype {} has {} bytes",
                to_string(view.shape), to_string(view.dtype), view.bytes.size());
  }
  if (static_cast<std::uint64_t>(*elements) != out.size()) {
    return fail(ErrorCode::kInvalidArgument, "[weights] a tensor of shape {} was to be read into {} floats",
                to_string(view.shape), out.size());
  }
  switch (view.dtype) {
    case DType::kF64: convert<double>(view.bytes, out); break;
    case DType::kF32:
      if (!out.empty()) std::memcpy(out.data(), view.bytes.data(), view.bytes.size());
      break;
    case DType::kF16: convert<std::uint16_t>(view.bytes, out, f16_to_f32); break;
    case DType::kBF16: convert<std::uint16_t>(view.bytes, out, bf16_to_f32); break;
    case DType::kF8E4M3: convert<std::uint8_t>(view.bytes, out, f8e4m3_to_f32); break;
    case DType::kF8E5M2: convert<std::uint8_t>(view.bytes, out, f8e5m2_to_f32); break;
    case DType::kI64: convert<std::int64_t>(view.bytes, out); break;
    case DType::kI32: convert<std::int32_t>(view.bytes, out); break;
    case DType::kI16: convert<std::int16_t>(view.bytes, out); break;
    case DType::kI8: convert<std::int8_t>(view.bytes, out); break;
    case DType::kU64: convert<std::uint64_t>(view.bytes, out); break;
    case DType::kU32: convert<std::uint32_t>(view.bytes, out); break;
    case DType::kU16: convert<std::uint16_t>(view.bytes, out); break;
    case DType::kU8: convert<std::uint8_t>(view.bytes, out); break;
    case DType::kBool:
      convert<std::uint8_t>(view.bytes, out, [](std::uint8_t value) { return value != 0 ? 1.0F : 0.0F; });
      break;
    case DType::kQ8_0:
    case DType::kQ4_0:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K: dequantize_blocks(view.dtype, view.bytes, out); break;
  }
  return {};
}

}  // namespace krait::formats
