#include "krait/formats/safetensors_writer.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

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

// Tells the temporary files of concurrent writers in one process apart.
std::atomic<unsigned> temporary_files{0};

// A file that vanishes unless it is committed.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::filesystem::path target)
      : target_(std::move(target)),
        path_(target_.string() + fmt::format(".{}-{}.partial", ::getpid(), temporary_files++)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) error_ = errno;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    if (!committed_) ::unlink(path_.c_str());
  }

  void write(const void* data, std::size_t size) {
    const char* bytes = static_cast<const char*>(data);
    while (size > 0 && error_ == 0) {
      const ssize_t written = ::write(descriptor_, bytes, size);
      if (written < 0) {
        if (errno != EINTR) error_ = errno;
        continue;
      }
      bytes += written;
      size -= static_cast<std::size_t>(written);
    }
  }

  Result<void> commit() {
    if (error_ == 0 && ::fsync(descriptor_) != 0) error_ = errno;
    if (error_ == 0 && ::rename(path_.c_str(), target_.c_str()) != 0) error_ = errno;
    if (error_ != 0) {
      return fail(ErrorCode::kInputOutput, "[safetensors] cannot write: {} ({})",
                  std::generic_category().message(error_), target_.string());
    }
    committed_ = true;
    return {};
  }

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
  int descriptor_ = -1;
  int error_ = 0;
  bool committed_ = false;
};

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
  TemporaryFile file(path);
  file.write(header.data(), header.size());
  for (const NamedTensor* tensor : ordered) file.write(tensor->view.bytes.data(), tensor->view.bytes.size());
  return file.commit();
}

}  // namespace krait::formats
