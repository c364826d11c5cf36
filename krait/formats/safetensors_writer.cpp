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

// The bytes before the data: length and header.
Result<std::string> header_of(std::span<const NamedTensor* const> tensors,
                              const std::map<std::string, std::string>& metadata, const std::string& origin) {
  std::vector<std::string> members;
  try {
    std::vector<std::string> texts;
    for (const auto& [key, value] : metadata) texts.push_back(quoted(key) + ":" + quoted(value));
    if (!texts.empty()) members.push_back(fmt::format("\"__metadata__\":{{{}}}", fmt::join(texts, ",")));
    std::uint64_t place = 0;
    for (const NamedTensor* tensor : tensors) {
      const TensorView& view = tensor->view;
      members.push_back(fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                                    quoted(tensor->name), safetensors_dtype_name(view.dtype),
                                    fmt::join(view.shape, ","), place, place + view.bytes.size()));
      place += view.bytes.size();
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
  std::string result(sizeof length, '\0');
  std::memcpy(result.data(), &length, sizeof length);
  return result + text;
}

Result<void> check(const NamedTensor& tensor, const std::string& origin) {
  const TensorView& view = tensor.view;
  if (tensor.name == "__metadata__") {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] \"__metadata__\" cannot be the name of a tensor ({})",
                origin);
  }
  if (safetensors_dtype_name(view.dtype).empty()) {
    return fail(ErrorCode::kInvalidArgument, "[safetensors] tensor \"{}\": the format has no dtype {} ({})",
                tensor.name, to_string(view.dtype), origin);
  }
  const auto elements = element_count(view.shape);
  const auto wanted = elements ? bytes_for(view.dtype, *elements) : std::nullopt;
  if (wanted != view.bytes.size()) {
    return fail(ErrorCode::kInvalidArgument,
                "[safetensors] tensor \"{}\" of shape {} and dtype {} comes with {} bytes ({})", tensor.name,
                to_string(view.shape), to_string(view.dtype), view.bytes.size(), origin);
  }
  return {};
}

}  // namespace

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                               const std::map<std::string, std::string>& metadata) {
  const std::string origin = path.string();
  std::vector<const NamedTensor*> ordered;
  for (const NamedTensor& tensor : tensors) {
    KRAIT_TRY(check(tensor, origin));
    ordered.push_back(&tensor);
  }
  std::ranges::sort(ordered, {}, [](const NamedTensor* tensor) -> const std::string& { return tensor->name; });
  for (std::size_t i = 1; i < ordered.size(); ++i) {
    if (ordered[i]->name == ordered[i - 1]->name) {
      return fail(ErrorCode::kInvalidArgument, "[safetensors] tensor \"{}\" is given twice ({})", ordered[i]->name,
                  origin);
    }
  }
  std::ranges::sort(ordered, {}, [](const NamedTensor* tensor) {
    return std::pair<int, std::string_view>(-info(tensor->view.dtype).bytes_per_block, tensor->name);
  });

  KRAIT_ASSIGN(const std::string header, header_of(ordered, metadata, origin));
  AtomicFile file(path);
  file.write(header.data(), header.size());
  for (const NamedTensor* tensor : ordered) file.write(tensor->view.bytes.data(), tensor->view.bytes.size());
  return file.commit("safetensors");
}

}  // namespace krait::formats
