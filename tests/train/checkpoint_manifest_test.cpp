#include "krait/train/checkpoint_manifest.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

using tests::expect_error;

constexpr CheckpointManifest kManifest{{42, 1000}, 123456789012, 0x00ab12cd};

TEST(CheckpointManifest, IsReadBack) {
  for (const CheckpointManifest& manifest :
       {kManifest, CheckpointManifest{}, CheckpointManifest{{UINT64_MAX, INT64_MAX}, UINT64_MAX, UINT32_MAX}}) {
    KRAIT_ASSERT_VALUE(const auto read, parse_manifest(manifest_text(manifest), "m"));
    EXPECT_EQ(read.id, manifest.id);
    EXPECT_EQ(read.data_bytes, manifest.data_bytes);
    EXPECT_EQ(read.header_crc32c, manifest.header_crc32c);
  }
}

TEST(CheckpointManifest, NamesItsFile) {
  EXPECT_EQ(kManifest.id.manifest_name(), "checkpoint-000042-step-1000.json");
  EXPECT_NE(manifest_text(kManifest).find("\"checkpoint-000042-step-1000.safetensors\""), std::string::npos);
}

TEST(CheckpointManifest, EveryChangedByteIsFound) {
  const std::string text = manifest_text(kManifest);
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      EXPECT_FALSE(parse_manifest(changed, "m").has_value()) << "byte " << i << " bit " << bit;
    }
    EXPECT_FALSE(parse_manifest(text.substr(0, i), "m").has_value()) << "cut at " << i;
  }
  EXPECT_FALSE(parse_manifest(text + " ", "m").has_value());
}

TEST(CheckpointManifest, SaysWhatIsWrong) {
  expect_error(parse_manifest("", "m"), ErrorCode::kCorrupt, {"cannot be read", "(m)"});
  expect_error(parse_manifest("{\"format\": \"other\"}", "m"), ErrorCode::kCorrupt, {"no manifest", "other"});
  expect_error(parse_manifest("{\"format\": \"krait-checkpoint\", \"version\": 2}", "m"), ErrorCode::kUnsupported,
               {"version 2", "1"});
  expect_error(parse_manifest(std::string(kManifestMaximum + 1, ' '), "m"), ErrorCode::kCorrupt, {"65537"});
  for (const char* wrong : {"-1", "1e300", "18446744073709551616", "[]", "\"1\"", "1.0", "9223372036854775808"}) {
    std::string text = manifest_text(kManifest);
    text.replace(text.find("1000"), 4, wrong);
    EXPECT_FALSE(parse_manifest(text, "m").has_value()) << wrong;
  }
}

TEST(CheckpointFiles, OnlyNamesOfOursAreListed) {
  const tests::TemporaryFolder folder;
  for (const char* name :
       {"checkpoint-000002-step-5.json", "checkpoint-000010-step-3.json", "checkpoint-1000000-step-1.safetensors",
        "checkpoint-000002-step-5.safetensors", "checkpoint-000003-step-7.json.123-0.partial",
        // not as we write them
        "checkpoint-2-step-5.json", "checkpoint-000002-step-05.json", "checkpoint-000002-step--5.json",
        "checkpoint-000002-step-.json", "checkpoint-x-step-5.json", "checkpoint-step-5.json", "notes.json", "x.partial",
        "checkpoint-000002-step-5.txt", "a.json.partial"}) {
    folder.write(name, "x");
  }
  KRAIT_ASSERT_VALUE(const auto files, list_checkpoint_files(folder.path()));
  EXPECT_EQ(files.manifests, (std::vector<CheckpointId>{{2, 5}, {10, 3}}));
  EXPECT_EQ(files.data, (std::vector<CheckpointId>{{2, 5}, {1000000, 1}}));
  EXPECT_EQ(files.partial, (std::vector<std::filesystem::path>{"checkpoint-000003-step-7.json.123-0.partial"}));
  expect_error(list_checkpoint_files(folder.path() / "none"), ErrorCode::kNotFound, {"cannot list", "none"});
}

}  // namespace
}  // namespace krait::train
