// Writes state objects (state_file.h).
#include <zstd.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "krait/core/check.h"
#include "krait/core/crc32c.h"
#include "krait/formats/atomic_file.h"
#include "krait/formats/state_file.h"
#include "krait/formats/state_file_layout.h"

namespace krait::formats {
namespace {

using Json = nlohmann::ordered_json;
using Pieces = std::vector<std::span<const std::byte>>;

struct Prepared {
  std::vector<StateSection> table;
  std::vector<Pieces> pieces;                      // as they are stored
  std::vector<std::vector<std::byte>> compressed;  // what some of the pieces point into
};

// One zstd frame of all pieces.
Result<std::vector<std::byte>> compress(const Pieces& pieces, std::uint64_t bytes, int level, const std::string& name) {
  const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context(ZSTD_createCCtx(), ZSTD_freeCCtx);
  KRAIT_CHECK(context != nullptr, "zstd has no memory for a context");
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setPledgedSrcSize(context.get(), bytes);
  std::vector<std::byte> out(ZSTD_compressBound(bytes));
  ZSTD_outBuffer target{out.data(), out.size(), 0};
  std::size_t left = 0;
  for (const auto piece : pieces) {
    ZSTD_inBuffer source{piece.data(), piece.size(), 0};
    while (source.pos < source.size) {
      left = ZSTD_compressStream2(context.get(), &target, &source, ZSTD_e_continue);
      if (ZSTD_isError(left) != 0) break;
    }
  }
  ZSTD_inBuffer nothing{nullptr, 0, 0};
  if (ZSTD_isError(left) == 0) left = ZSTD_compressStream2(context.get(), &target, &nothing, ZSTD_e_end);
  if (ZSTD_isError(left) != 0 || left != 0) {
    return fail(ErrorCode::kResourceExhausted, "[state] section \"{}\" cannot be compressed: {}", name,
                ZSTD_getErrorName(left));
  }
  out.resize(target.pos);
  return out;
}

Result<Prepared> prepare(std::span<const StateSource> sections, const StateWriteOptions& options) {
  Prepared prepared;
  prepared.compressed.reserve(sections.size());
  for (const StateSource& source : sections) {
    StateSection section{.name = source.name, .role = source.role, .dtype = source.dtype, .shape = source.shape};
    for (const auto piece : source.pieces) section.bytes += piece.size();
    section.stored_bytes = section.bytes;
    Pieces pieces = source.pieces;
    if (options.zstd_level != 0 && section.bytes > 0) {
      KRAIT_ASSIGN(auto packed, compress(source.pieces, section.bytes, options.zstd_level, source.name));
      if (packed.size() < section.bytes) {
        section.compressed = true;
        section.stored_bytes = packed.size();
        prepared.compressed.push_back(std::move(packed));
        pieces = {prepared.compressed.back()};
      }
    }
    for (const auto piece : pieces) section.crc32c = crc32c(piece, section.crc32c);
    prepared.table.push_back(std::move(section));
    prepared.pieces.push_back(std::move(pieces));
  }
  return prepared;
}

Json sampler_json(const StateSampler& sampler) {
  return {{"options", sampler.options}, {"seed", sampler.seed}, {"random", sampler.random}};
}

// The header with each section's offset; offsets count from where the sections begin, so that the header's own length
// does not matter to them.
std::string header_text(const StateDescription& description, std::span<StateSection> table) {
  Json sections = Json::array();
  std::uint64_t place = 0;
  for (StateSection& section : table) {
    section.offset = place;
    place = state_aligned(place + section.stored_bytes);
    Json row = {{"name", section.name},
                {"role", section.role},
                {"dtype", to_string(section.dtype)},
                {"shape", section.shape},
                {"bytes", section.bytes},
                {"offset", section.offset},
                {"stored_bytes", section.stored_bytes},
                {"crc32c", section.crc32c}};
    if (section.compressed) row["compression"] = "zstd";
    sections.push_back(std::move(row));
  }
  Json header = {{"model",
                  {{"architecture", description.identity.architecture},
                   {"weights", description.identity.weights},
                   {"hash", description.identity.model.hex()}}},
                 {"tokenizer", {{"hash", description.identity.tokenizer.hex()}}},
                 {"position", description.position},
                 {"prefix", description.prefix.hex()}};
  if (description.sampler) header["sampler"] = sampler_json(*description.sampler);
  if (!description.note.empty()) header["note"] = description.note;
  header["sections"] = std::move(sections);
  return header.dump(-1, ' ', false, Json::error_handler_t::replace);
}

using Sink = std::function<void(std::span<const std::byte>)>;

// All but the prelude, in order.
void emit(const Prepared& prepared, std::string_view header, const Sink& sink) {
  static constexpr std::array<std::byte, kStateAlignment> kZeros{};
  const auto pad = [&](std::uint64_t bytes) {
    sink(std::span(kZeros).first(static_cast<std::size_t>(state_aligned(bytes) - bytes)));
  };
  sink(std::as_bytes(std::span(header)));
  pad(header.size());
  for (std::size_t i = 0; i < prepared.table.size(); ++i) {
    for (const auto piece : prepared.pieces[i]) sink(piece);
    pad(prepared.table[i].stored_bytes);
  }
}

Result<void> write_to(const StateDescription& description, std::span<const StateSource> sections,
                      const StateWriteOptions& options, const std::function<void(std::uint64_t)>& reserve,
                      const Sink& sink) {
  KRAIT_ASSIGN(Prepared prepared, prepare(sections, options));
  const std::string header = header_text(description, prepared.table);
  KRAIT_CHECK(header.size() <= kStateFileMaximumHeader, "a header of {} bytes", header.size());
  StatePrelude prelude;
  prelude.version = kStateFileVersion;
  prelude.header_bytes = header.size();
  prelude.header_crc32c = crc32c(std::as_bytes(std::span(header)));
  prelude.file_bytes = sizeof prelude;
  emit(prepared, header, [&](std::span<const std::byte> bytes) { prelude.file_bytes += bytes.size(); });

  Hasher hasher;
  hasher.feed(prelude.bytes());
  emit(prepared, header, [&](std::span<const std::byte> bytes) { hasher.feed(bytes); });
  prelude.object_high = hasher.value().high;
  prelude.object_low = hasher.value().low;
  prelude.prelude_crc32c = crc32c(prelude.bytes().first(sizeof prelude - sizeof prelude.prelude_crc32c));

  reserve(prelude.file_bytes);
  sink(prelude.bytes());
  emit(prepared, header, sink);
  return {};
}

}  // namespace

Result<void> write_state_file(const std::filesystem::path& path, const StateDescription& description,
                              std::span<const StateSource> sections, const StateWriteOptions& options) {
  AtomicFile file(path);
  KRAIT_TRY(write_to(
      description, sections, options, [](std::uint64_t) {},
      [&](std::span<const std::byte> bytes) { file.write(bytes.data(), bytes.size()); }));
  return file.commit("state");
}

Result<std::vector<std::byte>> encode_state(const StateDescription& description, std::span<const StateSource> sections,
                                            const StateWriteOptions& options) {
  std::vector<std::byte> out;
  KRAIT_TRY(write_to(
      description, sections, options, [&](std::uint64_t bytes) { out.reserve(bytes); },
      [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }));
  return out;
}

}  // namespace krait::formats
