#include "krait/train/checkpoint_manifest.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "krait/core/crc32c.h"

namespace krait::train {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kMiddle = "-step-";

// The whole of `text` as a number.
template <class Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// What a name "checkpoint-N-step-M" says; nothing where that is not how we would write it.
std::optional<CheckpointId> id_of(std::string_view stem) {
  const auto middle = stem.find(kMiddle);
  if (!stem.starts_with(kPrefix) || middle == std::string_view::npos || middle < kPrefix.size()) return std::nullopt;
  const auto sequence = number<std::uint64_t>(stem.substr(kPrefix.size(), middle - kPrefix.size()));
  const auto step = number<std::int64_t>(stem.substr(middle + kMiddle.size()));
  if (!sequence || !step || *step < 0 || CheckpointId{*sequence, *step}.stem() != stem) return std::nullopt;
  return CheckpointId{*sequence, *step};
}

std::uint64_t count_at(const Json& object, const char* key, std::uint64_t most) {
  const Json& value = object.at(key);
  // Anything else would be spelled otherwise, so any number does for it.
  return value.is_number_unsigned() ? std::min(value.get<std::uint64_t>(), most) : 0;
}

// All but the checksum of the manifest itself, which ends it.
std::string body_of(const CheckpointManifest& manifest) {
  return fmt::format(
      "{{\n  \"format\": \"{}\",\n  \"version\": {},\n  \"sequence\": {},\n  \"step\": {},\n  \"files\": [\n"
      "    {{\"name\": \"{}\", \"bytes\": {}, \"header_crc32c\": \"{}\"}}\n  ],\n",
      kCheckpointFormat, kCheckpointVersion, manifest.id.sequence, manifest.id.step, manifest.id.data_name(),
      manifest.data_bytes, checksum_text(manifest.header_crc32c));
}

}  // namespace

std::string CheckpointId::stem() const { return fmt::format("{}{:06}{}{}", kPrefix, sequence, kMiddle, step); }

std::string checksum_key(std::string_view tensor) { return fmt::format("crc32c {}", tensor); }

std::string checksum_text(std::uint32_t crc32c) { return fmt::format("{:08x}", crc32c); }

std::optional<std::uint32_t> parse_checksum(std::string_view text) {
  const auto value = number<std::uint32_t>(text, 16);
  return value && checksum_text(*value) == text ? value : std::nullopt;
}

std::string manifest_text(const CheckpointManifest& manifest) {
  const std::string body = body_of(manifest);
  return fmt::format("{}  \"crc32c\": \"{}\"\n}}\n", body, checksum_text(crc32c(std::as_bytes(std::span(body)))));
}

Result<CheckpointManifest> parse_manifest(std::string_view text, const std::string& origin) {
  if (text.size() > kManifestMaximum) {
    return fail(ErrorCode::kCorrupt, "[checkpoint] a manifest of {} bytes is longer than any: {} ({})", text.size(),
                kManifestMaximum, origin);
  }
  CheckpointManifest manifest;
  try {
    const Json json = Json::parse(text);
    if (json.at("format").get<std::string>() != kCheckpointFormat) {
      return fail(ErrorCode::kCorrupt, "[checkpoint] this is no manifest: its format is {} ({})",
                  json.at("format").dump(), origin);
    }
    if (json.at("version") != kCheckpointVersion) {
      return fail(ErrorCode::kUnsupported, "[checkpoint] version {} is not the {} that this krait reads ({})",
                  json.at("version").dump(), kCheckpointVersion, origin);
    }
    const Json& file = json.at("files").at(0);
    manifest.id = {count_at(json, "sequence", UINT64_MAX),
                   static_cast<std::int64_t>(count_at(json, "step", INT64_MAX))};
    manifest.data_bytes = count_at(file, "bytes", UINT64_MAX);
    // What is no checksum is spelled otherwise, which shows below.
    manifest.header_crc32c = parse_checksum(file.at("header_crc32c").get<std::string>()).value_or(0);
  } catch (const Json::exception& wrong) {
    return fail(ErrorCode::kCorrupt, "[checkpoint] the manifest cannot be read: {:.200} ({})", wrong.what(), origin);
  }
  if (manifest_text(manifest) != text) {
    return fail(ErrorCode::kCorrupt,
                "[checkpoint] the manifest is damaged: it is not what was written for step {} ({})", manifest.id.step,
                origin);
  }
  return manifest;
}

Result<CheckpointFiles> list_checkpoint_files(const std::filesystem::path& folder) {
  CheckpointFiles files;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::filesystem::path name = entry->path().filename();
    const auto id = id_of(name.stem().string());
    if (id && name.extension() == ".json") files.manifests.push_back(*id);
    if (id && name.extension() == ".safetensors") files.data.push_back(*id);
    // As formats/atomic_file.h names a file that is not complete: NAME.json.NUMBERS.partial
    const std::filesystem::path manifest = name.stem().stem();
    if (name.extension() == ".partial" && manifest.extension() == ".json" && id_of(manifest.stem().string())) {
      files.partial.push_back(name);
    }
  }
  if (error) {
    const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
    return fail(missing ? ErrorCode::kNotFound : ErrorCode::kInputOutput,
                "[checkpoint] cannot list the folder: {} ({})", error.message(), folder.string());
  }
  for (auto* ids : {&files.manifests, &files.data}) {
    std::ranges::sort(*ids, {}, [](const CheckpointId& id) { return std::pair(id.sequence, id.step); });
  }
  return files;
}

}  // namespace krait::train
