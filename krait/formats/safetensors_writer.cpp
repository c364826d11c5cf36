#include "krait/formats/safetensors_writer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "krait/formats/atomic_file.h"
#include "krait/formats/safetensors.h"

namespace krait::formats {
namespace {

// Throws type_error for text that is not UTF-8.
std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// The bytes before the data: length and header. Fills in where each tensor begins.
Result<void> add_header(SafetensorsLayout& layout, std::span<const TensorInfo> tensors,
                        const std::map<std::string, std::string>& metadata, const std::string& origin) {
  std::vector<std::string> members;
  std::uint64_t place = 0;
  try {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata) texts.push_back(quoted(key) + ":" + quoted(value));
    if (!texts.empty()) members.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(texts, ",")));
    for (const std::size_t index : layout.order) {
      const TensorInfo& tensor = tensors[index];
      layout.offsets[index] = place;
      members.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                    quoted(tensor.name), safetensors_dtype_name(tensor.dtype),
                                    fmt::join(tensor.shape, ","), place, place + tensor.bytes));
      place += tensor.bytes;
    }
  } catch (const nlohmann::json::type_error&) {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] a tensor name or a metadata text is not UTF-8 ({})",
                origin);
  }
  std::string text = fmt::format("{{{}}}", fmt::join(members, ","));
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kSafetensorsMaximumHeader) {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] header is larger than the format allows: {} > {} ({})",
                text.size(), kSafetensorsMaximumHeader, origin);
  }
  const std::uint64_t length = text.size();
  layout.header.assign(sizeof length, '\0');
  std::memcpy(layout.header.data(), &length, sizeof length);
  layout.header += text;
  for (std::uint64_t& offset : layout.offsets) offset += layout.header.size();
  layout.bytes = layout.header.size() + place;
  return {};
}

Result<void> check(const TensorInfo& tensor, const std::string& origin) {
  if (tensor.name == "__metadata__") {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] \"__metadata__\" cannot be the name of a tensor ({})",
                origin);
  }
  if (safetensors_dtype_name(tensor.dtype).empty()) {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] tensor \"{}\": the format has no dtype {} ({})",
                tensor.name, to_string(tensor.dtype), origin);
  }
  const auto elements = element_count(tensor.shape);
  const auto wanted = elements ? bytes_for(tensor.dtype, *elements) : std::nullopt;
  if (wanted != tensor.bytes) {
    return fail(ErrorCode::kInvalidArgument,
                "[safetensors] tensor \"{}\" of shape {} and dtype {} comes with {} bytes ({})", tensor.name,
                to_string(tensor.shape), to_string(tensor.dtype), tensor.bytes, origin);
  }
  return {};
}

Result<void> write(const std::filesystem::path& path, TensorQueue queue,
                   const std::map<std::string, std::string>& metadata) {
  KRAIT_ASSIGN(const SafetensorsLayout layout, lay_out_safetensors(queue.tensors(), metadata, path.string()));
  AtomicFile file(path);
  file.write(layout.header.data(), layout.header.size());
  for (const std::size_t i : layout.order) KRAIT_TRY(queue.write(i, file));
  return file.commit("safetensors");
}

}  // namespace

Result<SafetensorsLayout> lay_out_safetensors(std::span<const TensorInfo> tensors,
                                              const std::map<std::string, std::string>& metadata,
                                              const std::string& origin) {
  SafetensorsLayout layout;
  std::vector<std::size_t>& order = layout.order;
  for (const TensorInfo& tensor : tensors) {
    KRAIT_TRY(check(tensor, origin));
    order.push_back(order.size());
  }
  std::ranges::sort(order, {}, [&](std::size_t i) -> const std::string& { return tensors[i].name; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (tensors[order[i]].name == tensors[order[i - 1]].name) {
      return fail(ErrorCode::kInvalidArgument, "[safetensors] tensor \"{}\" is given twice ({})",
                  tensors[order[i]].name, origin);
    }
  }
  std::ranges::sort(order, {}, [&](std::size_t i) {
    return std::pair<int, std::string_view>(-info(tensors[i].dtype).bytes_per_block, tensors[i].name);
  });
  layout.offsets.resize(order.size());
  KRAIT_TRY(add_header(layout, tensors, metadata, origin));
  return layout;
}

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                               const std::map<std::string, std::string>& metadata) {
  return write(path, TensorQueue(tensors), metadata);
}

Result<void> write_safetensors(const std::filesystem::path& path, const WeightSource& source,
                               const std::map<std::string, std::string>& metadata, WriteProgress progress) {
  return write(path, TensorQueue(source, std::move(progress)), metadata);
}

}  // namespace krait::formats
