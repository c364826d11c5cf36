// The manifest of a checkpoint: a small JSON file that is written last, so that a checkpoint is there exactly when its
// manifest is.
//
//   checkpoint-000042-step-1000.json          the manifest
//   checkpoint-000042-step-1000.safetensors   the data: a safetensors file, with these texts in "__metadata__":
//       "format" "krait-checkpoint", "format_version" "1", "step" "1000",
//       "crc32c NAME" for each tensor NAME, the CRC-32C of its bytes in 8 hexadecimal digits
//
// The first number counts checkpoints as they were committed: a run that goes back to an older step and takes another
// way from there writes higher numbers, and nothing is ever written twice. The manifest holds the checksum of the data
// file's header, which holds those of the tensors; and its own, which covers every byte of it: a manifest has one
// spelling only, and what is spelled otherwise is refused.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

inline constexpr const char* kCheckpointFormat = "krait-checkpoint";
inline constexpr int kCheckpointVersion = 1;
inline constexpr std::size_t kManifestMaximum = 64 << 10;  // bytes

struct CheckpointId {
  std::uint64_t sequence = 0;
  std::int64_t step = 0;

  // "checkpoint-000042-step-1000"
  std::string stem() const;
  std::string manifest_name() const { return stem() + ".json"; }
  std::string data_name() const { return stem() + ".safetensors"; }
  bool operator==(const CheckpointId&) const = default;
};

struct CheckpointManifest {
  CheckpointId id;
  std::uint64_t data_bytes = 0;
  std::uint32_t header_crc32c = 0;  // of the data file's length and header
};

std::string manifest_text(const CheckpointManifest& manifest);
// `origin` stands in messages. kUnsupported for another version.
Result<CheckpointManifest> parse_manifest(std::string_view text, const std::string& origin);

// The key of a tensor's checksum in "__metadata__", and its spelling.
std::string checksum_key(std::string_view tensor);
std::string checksum_text(std::uint32_t crc32c);
std::optional<std::uint32_t> parse_checksum(std::string_view text);

// What stands in a folder under names of ours, the oldest first.
struct CheckpointFiles {
  std::vector<CheckpointId> manifests;
  std::vector<CheckpointId> data;
  std::vector<std::filesystem::path> partial;  // manifests that were never finished
};
Result<CheckpointFiles> list_checkpoint_files(const std::filesystem::path& folder);

}  // namespace krait::train
