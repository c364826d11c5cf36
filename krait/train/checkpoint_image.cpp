#include "krait/train/checkpoint_image.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/train/checkpoint_manifest.h"

namespace krait::train {
namespace {

// A copy of this length is long enough for the threads' bookkeeping not to count.
constexpr std::size_t kCopyBytes = std::size_t{4} << 20;

}  // namespace

Result<CheckpointImage> CheckpointImage::begin(std::int64_t step, std::span<const StateProvider* const> providers,
                                               SizeClassPool& memory) {
  const std::string origin = fmt::format("the checkpoint of step {}", step);
  CheckpointImage image;
  std::vector<ProvidedState> states;  // keeps the blobs until they are copied
  std::vector<const std::byte*> sources;
  std::vector<bool> is_blob;
  std::set<std::string> names;
  for (const StateProvider* provider : providers) {
    const std::string name = provider->name();
    if (name.empty() || name.find('/') != std::string::npos || !names.insert(name).second) {
      return fail(ErrorCode::kInvalidArgument,
                  "[checkpoint] \"{}\" cannot name a provider: it is empty, holds '/' or is given twice ({})", name,
                  origin);
    }
    KRAIT_ASSIGN(ProvidedState state, provider->state());
    for (const auto& [tensor, view] : state.tensors) {
      image.tensors_.push_back({state_name(name, tensor), view.dtype, view.shape, view.bytes.size()});
      sources.push_back(view.bytes.data());
      is_blob.push_back(false);
    }
    for (const auto& [blob, bytes] : state.blobs) {
      image.tensors_.push_back(
          {state_name(name, blob), DType::kU8, {static_cast<std::int64_t>(bytes.size())}, bytes.size()});
      sources.push_back(bytes.data());
      is_blob.push_back(true);
    }
    states.push_back(std::move(state));
  }
  image.metadata_ = {{"format", kCheckpointFormat},
                     {"format_version", fmt::format("{}", kCheckpointVersion)},
                     {"step", fmt::format("{}", step)}};
  for (const auto& tensor : image.tensors_) image.metadata_[checksum_key(tensor.name)] = checksum_text(0);
  KRAIT_ASSIGN(image.layout_, formats::lay_out_safetensors(image.tensors_, image.metadata_, origin));
  KRAIT_ASSIGN(image.block_, memory.take((image.layout_.bytes + kGrain - 1) / kGrain * kGrain));

  std::byte* first = image.block_.bytes().data();
  std::memset(first + image.bytes(), 0, image.pages().size() - image.bytes());
  for (std::size_t i = 0; i < sources.size(); ++i) {
    std::byte* to = first + image.layout_.offsets[i];
    if (is_blob[i]) {
      std::memcpy(to, sources[i], image.tensors_[i].bytes);
      continue;
    }
    for (std::size_t done = 0; done < image.tensors_[i].bytes; done += kCopyBytes) {
      const std::size_t bytes = std::min<std::size_t>(kCopyBytes, image.tensors_[i].bytes - done);
      image.copies_.push_back({to + done, sources[i] + done, bytes});
    }
  }
  return image;
}

void CheckpointImage::copy() {
  for (std::size_t i = progress_->next++; i < copies_.size(); i = progress_->next++) {
    std::memcpy(copies_[i].to, copies_[i].from, copies_[i].bytes);
    ++progress_->copied;
  }
}

void CheckpointImage::copy(ThreadPool& threads) {
  threads.parallel_for(static_cast<std::int64_t>(copies_.size()), 1, [&](std::int64_t, std::int64_t) { copy(); });
}

void CheckpointImage::complete(const std::function<void()>& now_and_then) {
  const std::span<const std::byte> all = block_.bytes();
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    std::uint32_t crc = 0;
    for (std::size_t done = 0; done < tensors_[i].bytes; done += kCopyBytes) {
      const std::size_t bytes = std::min<std::size_t>(kCopyBytes, tensors_[i].bytes - done);
      crc = crc32c(all.subspan(layout_.offsets[i] + done, bytes), crc);
      now_and_then();
    }
    metadata_[checksum_key(tensors_[i].name)] = checksum_text(crc);
  }
  const auto complete = formats::lay_out_safetensors(tensors_, metadata_, "a checkpoint");
  KRAIT_CHECK(complete.has_value(), "the header cannot be made a second time: {}", complete.error().message);
  KRAIT_CHECK_EQ(complete->header.size(), layout_.header.size());
  std::memcpy(block_.bytes().data(), complete->header.data(), complete->header.size());
}

}  // namespace krait::train
