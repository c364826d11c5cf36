#include "krait/train/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "krait/core/crc32c.h"
#include "krait/formats/safetensors.h"

namespace krait::train {
namespace {

// So much of a checkpoint is in memory for each thread that verifies it.
constexpr std::size_t kVerifiedBytes = std::size_t{4} << 20;

// The order in which threads take tensors, so that none begins a long one when the others are done.
std::vector<std::size_t> largest_first(std::span<const formats::TensorInfo> tensors) {
  std::vector<std::size_t> order(tensors.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, std::greater<>(), [&](std::size_t i) { return tensors[i].bytes; });
  return order;
}

// The length and header of a safetensors file; nothing when they do not lie in it.
std::optional<std::span<const std::byte>> header_of(std::span<const std::byte> data) {
  std::uint64_t bytes = 0;
  if (data.size() < sizeof bytes) return std::nullopt;
  std::memcpy(&bytes, data.data(), sizeof bytes);
  if (bytes > data.size() - sizeof bytes) return std::nullopt;
  return data.first(sizeof bytes + static_cast<std::size_t>(bytes));
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& manifest_path) {
  CheckpointManifest manifest;
  {
    KRAIT_ASSIGN(const auto file, formats::MappedFile::open(manifest_path));
    const std::span<const std::byte> bytes = file.bytes();
    KRAIT_ASSIGN(manifest,
                 parse_manifest({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, manifest_path.string()));
  }
  if (manifest_path.filename() != manifest.id.manifest_name()) {
    return fail(ErrorCode::kCorrupt, "[checkpoint] this is the manifest of {} under another name ({})",
                manifest.id.stem(), manifest_path.string());
  }
  KRAIT_ASSIGN(auto data, formats::MappedFile::open(manifest_path.parent_path() / manifest.id.data_name()));
  KRAIT_ASSIGN(Checkpoint checkpoint, parse(manifest, data.bytes(), data.name()));
  checkpoint.file_ = std::move(data);
  return checkpoint;
}

Result<Checkpoint> Checkpoint::parse(const CheckpointManifest& manifest, std::span<const std::byte> data,
                                     const std::string& origin) {
  if (data.size() != manifest.data_bytes) {
    return fail(ErrorCode::kCorrupt, "[checkpoint] the data has {} bytes instead of {} ({})", data.size(),
                manifest.data_bytes, origin);
  }
  const auto header = header_of(data);
  if (!header || crc32c(*header) != manifest.header_crc32c) {
    return fail(ErrorCode::kCorrupt, "[checkpoint] the header of the data is damaged: its checksum is not {} ({})",
                checksum_text(manifest.header_crc32c), origin);
  }
  Checkpoint checkpoint;
  checkpoint.id_ = manifest.id;
  checkpoint.origin_ = origin;
  KRAIT_ASSIGN(checkpoint.source_, formats::parse_safetensors(data, origin));
  KRAIT_ASSIGN(const auto metadata, formats::parse_safetensors_metadata(data, origin));
  for (const auto& tensor : checkpoint.tensors()) {
    const auto text = metadata.find(checksum_key(tensor.name));
    const auto value = text == metadata.end() ? std::nullopt : parse_checksum(text->second);
    if (!value) {
      return fail(ErrorCode::kCorrupt, "[checkpoint] tensor \"{}\" has no checksum ({})", tensor.name, origin);
    }
    checkpoint.checksums_.push_back(*value);
  }
  return checkpoint;
}

Result<void> Checkpoint::verify(ThreadPool& threads) const {
  const auto order = largest_first(tensors());
  std::vector<std::uint32_t> found(order.size());
  threads.parallel_for(static_cast<std::int64_t>(order.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (const std::size_t i : std::span(order).subspan(begin, end - begin)) {
      const std::span<const std::byte> bytes = source_->view(tensors()[i].name)->bytes;
      for (std::size_t done = 0; done < bytes.size(); done += kVerifiedBytes) {
        const auto piece = bytes.subspan(done, std::min(kVerifiedBytes, bytes.size() - done));
        found[i] = crc32c(piece, found[i]);
        release(piece);
      }
    }
  });
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] != checksums_[i]) {
      return fail(ErrorCode::kCorrupt, "[checkpoint] tensor \"{}\" is damaged: checksum {}, not {} ({})",
                  tensors()[i].name, checksum_text(found[i]), checksum_text(checksums_[i]), origin_);
    }
  }
  return {};
}

Result<TensorView> Checkpoint::view_as(std::string_view name, DType dtype, std::span<const std::int64_t> shape,
                                       std::uint64_t bytes) const {
  KRAIT_ASSIGN(const TensorView stored, view(name));
  if (stored.dtype != dtype || !std::ranges::equal(stored.shape, shape) || stored.bytes.size() != bytes) {
    return fail(ErrorCode::kInvalidArgument,
                "[checkpoint] tensor \"{}\" is {} of {} in the checkpoint, {} of {} ({} bytes) in the run ({})", name,
                to_string(stored.shape), to_string(stored.dtype), to_string(shape), to_string(dtype), bytes, origin_);
  }
  return stored;
}

void Checkpoint::release(std::span<const std::byte> part) const {
  if (!file_.bytes().empty()) file_.release(part);
}

Result<void> Checkpoint::read(std::string_view name, DType dtype, std::span<const std::int64_t> shape,
                              std::span<std::byte> out) const {
  KRAIT_ASSIGN(const TensorView stored, view_as(name, dtype, shape, out.size()));
  std::ranges::copy(stored.bytes, out.begin());
  return {};
}

Result<void> Checkpoint::read(std::string_view name, const PiecewiseTensor& tensor) const {
  KRAIT_ASSIGN(const TensorView stored, view_as(name, tensor.dtype, tensor.shape, tensor.bytes));
  return tensor.visit_pieces(PiecewiseTensor::Access::kWrite,
                             [&](std::uint64_t offset, std::span<std::byte> piece) -> Result<void> {
                               const auto from = stored.bytes.subspan(offset, piece.size());
                               std::ranges::copy(from, piece.begin());
                               release(from);
                               return {};
                             });
}

Result<void> restore_tensors(const Checkpoint& checkpoint, const StateProvider& provider) {
  KRAIT_ASSIGN(const ProvidedState state, provider.state());
  for (const formats::NamedTensor& tensor : state.tensors) {
    const std::span<std::byte> own(const_cast<std::byte*>(tensor.view.bytes.data()), tensor.view.bytes.size());
    KRAIT_TRY(checkpoint.read(state_name(provider.name(), tensor.name), tensor.view.dtype, tensor.view.shape, own));
  }
  for (const PiecewiseTensor& tensor : state.piecewise) {
    KRAIT_TRY(checkpoint.read(state_name(provider.name(), tensor.name), tensor));
  }
  return {};
}

Result<NewestCheckpoint> open_newest_checkpoint(const std::filesystem::path& folder, ThreadPool& threads) {
  KRAIT_ASSIGN(const CheckpointFiles files, list_checkpoint_files(folder));
  std::vector<Error> passed_over;
  for (auto id = files.manifests.rbegin(); id != files.manifests.rend(); ++id) {
    auto checkpoint = Checkpoint::open(folder / id->manifest_name());
    if (checkpoint) {
      auto verified = checkpoint->verify(threads);
      if (verified) return NewestCheckpoint{*std::move(checkpoint), std::move(passed_over)};
      passed_over.push_back(std::move(verified.error()));
    } else {
      passed_over.push_back(std::move(checkpoint.error()));
    }
  }
  if (passed_over.empty()) {
    return fail(ErrorCode::kNotFound, "[checkpoint] there is none in the folder ({})", folder.string());
  }
  return fail(ErrorCode::kCorrupt, "[checkpoint] none of {} is whole; the newest: {}", passed_over.size(),
              passed_over.front().message);
}

}  // namespace krait::train
