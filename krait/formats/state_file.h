// The state object: the state of one sequence after exactly n tokens as bytes that can be kept, moved and mapped
// (docs/formats.md has the layout byte by byte). What stands in the tensors is the model's business; what the object
// belongs to is told by identities, so that it can be refused where it does not fit.
//
//   prelude  64 bytes: magic, endianness mark, version, length of the file, length and CRC-32C of the header, XXH3-128
//            of the whole object
//   header   JSON: identity, position, hash of the tokens, sampler, and the table of sections
//   sections each at a multiple of 64 bytes, with a CRC-32C of its own; zstd-compressed or as they are
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/core/tensor_view.h"
#include "krait/formats/mapped_file.h"

namespace krait::formats {

// What a state can be used with.
struct StateIdentity {
  std::string architecture;  // "mamba2"
  std::string weights;       // the format that matrices are computed in: "f32", "int8"
  Hash128 model;             // of the weights and the configuration
  Hash128 tokenizer;         // zero: tokens came from elsewhere
  bool operator==(const StateIdentity&) const = default;
};

// How the next token would be drawn.
struct StateSampler {
  std::map<std::string, double> options;  // "temperature", "top_p", …
  std::uint64_t seed = 0;
  std::uint64_t random = 0;  // the generator's whole state
  bool operator==(const StateSampler&) const = default;
};

struct StateDescription {
  StateIdentity identity;
  std::int64_t position = 0;
  Hash128 prefix;  // core/hash.h, extend_prefix
  std::optional<StateSampler> sampler;
  std::string note;  // for people: what was read
};

// A named piece. Roles: "recurrent", "conv_window", "kv" (the tensors of the model's layout), "logits", "tokens",
// "counts" (of the sampler's penalties).
struct StateSection {
  std::string name;
  std::string role;
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t bytes = 0;         // uncompressed; of int8 with scales, more than the shape says
  std::uint64_t offset = 0;        // from the start of the object
  std::uint64_t stored_bytes = 0;  // as it stands there
  std::uint32_t crc32c = 0;        // of the stored bytes
  bool compressed = false;
};

// A section to be written: its bytes may lie in several places.
struct StateSource {
  std::string name;
  std::string role;
  DType dtype = DType::kF32;
  Shape shape;
  std::vector<std::span<const std::byte>> pieces;
};

struct StateWriteOptions {
  int zstd_level = 0;  // 0: as they are, which can be mapped
};

// Writes a file that appears under its name only when it is complete and on the disk.
Result<void> write_state_file(const std::filesystem::path& path, const StateDescription& description,
                              std::span<const StateSource> sections, const StateWriteOptions& options = {});
// The same bytes, in memory.
Result<std::vector<std::byte>> encode_state(const StateDescription& description, std::span<const StateSource> sections,
                                            const StateWriteOptions& options = {});

// A state object that is read. Nothing in it is believed: the header is checked when it is opened, before anything is
// allocated that its numbers ask for; the checksums of what is behind it by verify().
class StateObject {
 public:
  static Result<StateObject> open(const std::filesystem::path& path);  // maps the file
  // `bytes` are used where they are. `origin` stands in messages.
  static Result<StateObject> parse(std::span<const std::byte> bytes, std::string origin);

  const StateDescription& description() const { return description_; }
  std::span<const StateSection> sections() const { return sections_; }
  const StateSection* find(std::string_view name) const;
  std::uint64_t bytes() const { return bytes_.size(); }
  const std::string& origin() const { return origin_; }

  // kCorrupt for the first section whose checksum is wrong, or the whole object.
  Result<void> verify() const;
  // A section's content into `out`, which must be section.bytes long (InternalError otherwise).
  Result<void> read(const StateSection& section, std::span<std::byte> out) const;

 private:
  MappedFile file_;
  std::span<const std::byte> bytes_;
  std::string origin_;
  StateDescription description_;
  std::vector<StateSection> sections_;
};

// Of format version 1.
inline constexpr std::uint32_t kStateFileVersion = 1;
inline constexpr std::uint64_t kStateFileMaximumHeader = std::uint64_t{16} << 20;

}  // namespace krait::formats
