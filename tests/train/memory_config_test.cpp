#include "krait/train/memory_config.h"

#include <gtest/gtest.h>

namespace krait::train {
namespace {

TEST(MemoryConfig, ReadsBytes) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("1.5GiB").value(), 1610612736U);
  EXPECT_EQ(parse_bytes("200 MB").value(), 200000000U);
  EXPECT_EQ(parse_bytes("3KiB").value(), 3072U);
  for (const char* wrong : {"", "GiB", "2 gigs", "-1MB", "1e30GB", "nan", "2GiBs", " 2GiB"}) {
    EXPECT_FALSE(parse_bytes(wrong).has_value()) << wrong;
  }
}

std::string read(std::string_view text, MemoryOptions& memory) {
  ConfigFile file = *ConfigFile::parse(text, "run.toml");
  read_memory_config(file, memory);
  const auto done = file.finish();
  return done ? std::string() : done.error().message;
}

TEST(MemoryConfig, OffloadsEverythingUnlessToldWhat) {
  MemoryOptions none, as_it_comes, all, some;
  EXPECT_EQ(read("", none), "");
  EXPECT_FALSE(none.any());
  EXPECT_EQ(read("[memory]", as_it_comes), "");
  EXPECT_TRUE(as_it_comes.parameters);
  EXPECT_EQ(as_it_comes.limit, 0U);
  EXPECT_EQ(read("[memory]\nlimit = \"300MiB\"\nfolder = \"/x\"", all), "");
  EXPECT_TRUE(all.optimiser && all.activations && all.parameters);
  EXPECT_EQ(all.limit, 300U << 20);
  EXPECT_EQ(all.folder, "/x");
  EXPECT_EQ(read("[memory]\noffload = [\"optimiser\"]", some), "");
  EXPECT_TRUE(some.optimiser && !some.activations && !some.parameters);
}

TEST(MemoryConfig, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> kWrong[] = {
      {"offload = [\"gradients\"]", "gradients"},
      {"offload = []", "offload"},
      {"offload = [\"optimiser\", \"parameters\"]", "activations"},
      {"offload = [\"activations\"]", "optimiser"},
      {"limit = \"2 gigs\"", "2 gigs"},
      {"limit = \"0\"", "limit"},
      {"limits = \"2GiB\"", "limits"},
  };
  for (const auto& [text, word] : kWrong) {
    MemoryOptions memory;
    EXPECT_NE(read(std::string("[memory]\n") + text, memory).find(word), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace krait::train
