#include "krait/train/config_file.h"

#include <gtest/gtest.h>

#include "krait/train/train_config.h"
#include "tests/formats/temporary_folder.h"

namespace krait::train {
namespace {

ConfigFile parsed(std::string_view text) {
  auto file = ConfigFile::parse(text, "run.toml");
  EXPECT_TRUE(file) << file.error().message;
  return *std::move(file);
}

template <class Read>
std::string complaint(std::string_view text, Read read) {
  ConfigFile file = parsed(text);
  read(file);
  const auto done = file.finish();
  return done ? std::string() : done.error().message;
}

TEST(ConfigFile, ReadsWhatIsThereAndLeavesTheRest) {
  ConfigFile file = parsed(R"(
[data]
batch = 12
rate = 3
share = 0.25
name = "tales"
shuffle = false
seed = 9223372036854775807
files = ["a", "b"]
betas = [0.9, 1]
[[data.source]]
name = "x"
[[data.source]]
name = "y"
)");
  ConfigTable data = file.table("data");
  std::int64_t batch = 1, other = 5;
  double rate = 0, share = 0;
  std::string name;
  bool shuffle = true;
  std::uint64_t seed = 0;
  std::vector<std::string> files;
  std::vector<double> betas;
  data.read("batch", batch, 1, 100);
  data.read("other", other, 1, 100);
  data.read("rate", rate, 0, 10);
  data.read("share", share, 0, 1);
  data.read("name", name);
  data.read("shuffle", shuffle);
  data.read("seed", seed);
  data.read("files", files);
  data.read("betas", betas, 0, 1);
  std::vector<std::string> names;
  for (ConfigTable& source : data.tables("source")) source.read("name", names.emplace_back());
  std::int64_t nothing = 7;
  file.table("absent").read("key", nothing, 0, 1);
  const auto done = file.finish();
  EXPECT_TRUE(done) << done.error().message;
  EXPECT_EQ(batch, 12);
  EXPECT_EQ(other, 5);
  EXPECT_EQ(rate, 3);
  EXPECT_EQ(share, 0.25);
  EXPECT_EQ(name, "tales");
  EXPECT_FALSE(shuffle);
  EXPECT_EQ(seed, 9223372036854775807U);
  EXPECT_EQ(files, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(betas, (std::vector<double>{0.9, 1}));
  EXPECT_EQ(names, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(nothing, 7);
}

TEST(ConfigFile, NamesUnknownKeysWithTheirLine) {
  const auto read = [](ConfigFile& file) {
    std::int64_t batch = 0;
    ConfigTable data = file.table("data");
    data.read("batch", batch, 1, 100);
    for (ConfigTable& source : data.tables("source")) source.read("weight", batch, 1, 2);
  };
  EXPECT_EQ(complaint("[data]\nbatch = 3\n\nbacth = 4\n", read),
            "[config] run.toml:4: nobody knows 'bacth' in [data]; there may be batch, source");
  EXPECT_EQ(complaint("[dat]\nbatch = 3\n", read), "[config] run.toml:1: nobody knows 'dat'; there may be data");
  EXPECT_EQ(complaint("[data]\n[[data.source]]\nweight = 1\n[[data.source]]\nwieght = 1\n", read),
            "[config] run.toml:5: nobody knows 'wieght' in [data.source]; there may be weight");
}

TEST(ConfigFile, NamesWrongTypesAndValuesWithTheirLine) {
  const auto read = [](ConfigFile& file) {
    ConfigTable data = file.table("data");
    std::int64_t whole = 0;
    double number = 0;
    std::string text;
    bool flag = false;
    std::vector<std::string> texts;
    std::uint64_t seed = 0;
    static constexpr std::string_view kChoices[] = {"f32", "bf16"};
    data.read("whole", whole, 1, 100);
    data.read("number", number, 0, 1);
    data.read("choice", text, kChoices);
    data.read("text", text);
    data.read("flag", flag);
    data.read("texts", texts);
    data.read("seed", seed);
    data.table("inner");
    data.tables("list");
  };
  const auto one = [&](std::string_view line) { return complaint("[data]\n" + std::string(line), read); };
  EXPECT_EQ(one("whole = 0"), "[config] run.toml:2: 'whole' in [data] is 0, not from 1 to 100");
  EXPECT_EQ(one("whole = 2.0"), "[config] run.toml:2: 'whole' in [data] is a number, not a whole number");
  EXPECT_EQ(one("number = 1.5"), "[config] run.toml:2: 'number' in [data] is 1.5, not from 0 to 1");
  EXPECT_EQ(one("number = nan"), "[config] run.toml:2: 'number' in [data] is nan, not from 0 to 1");
  EXPECT_EQ(one("number = \"1\""), "[config] run.toml:2: 'number' in [data] is text, not a number");
  EXPECT_EQ(one("choice = \"f16\""), "[config] run.toml:2: 'choice' in [data] is 'f16'; there are f32, bf16");
  EXPECT_EQ(one("text = true"), "[config] run.toml:2: 'text' in [data] is true or false, not text");
  EXPECT_EQ(one("flag = 1"), "[config] run.toml:2: 'flag' in [data] is a whole number, not true or false");
  EXPECT_EQ(one("texts = [\"a\", 1]"), "[config] run.toml:2: 'texts' in [data] has a whole number in it, not text");
  EXPECT_EQ(one("seed = -1"), "[config] run.toml:2: 'seed' in [data] is -1, not from 0 to 9223372036854775807");
  EXPECT_EQ(one("inner = 3"), "[config] run.toml:2: 'inner' in [data] is a whole number, not a table");
  EXPECT_EQ(one("list = [1]"), "[config] run.toml:2: 'list' in [data] has a whole number in it, not a table");
  // The first in the file, whatever was read first.
  EXPECT_EQ(one("seed = -1\nwhole = 0"),
            "[config] run.toml:2: 'seed' in [data] is -1, not from 0 to 9223372036854775807 (and 1 more)");
}

TEST(ConfigFile, SaysWhereTheTextIsNoToml) {
  for (const char* text : {"[data\nx = 1", "a = 1\na = 2", "x = ", "day = 2026-01-31", "\xff"}) {
    const auto file = ConfigFile::parse(text, "run.toml");
    ASSERT_FALSE(file) << text;
    EXPECT_NE(file.error().message.find("run.toml:"), std::string::npos) << file.error().message;
  }
  EXPECT_NE(ConfigFile::parse("a = 1\na = 2", "run.toml").error().message.find("run.toml:2:"), std::string::npos);
  EXPECT_FALSE(ConfigFile::open("/nowhere/run.toml"));
}

TEST(TrainConfig, ReadsDataTokenizerTaskAndObjectives) {
  ConfigFile file = parsed(R"(
[data]
length = 64
batch = 2
seed = 3
[[data.source]]
tokens = ["shards"]
weight = 2.5
[[data.validation]]
name = "held out"
tokens = ["v.ktok"]
[tokenizer]
path = "tokenizer.json"
vocabulary = 4096
[task]
name = "parity"
length = 100
[[objective]]
name = "next_token"
[[objective]]
name = "infilling"
weight = 0.5
corruption = 0.3
)");
  const TrainDataConfig config = read_train_data_config(file);
  const auto done = file.finish();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(config.loader.length, 64);
  EXPECT_EQ(config.loader.batch, 2);
  EXPECT_EQ(config.loader.seed, 3U);
  ASSERT_EQ(config.sources.size(), 1U);
  EXPECT_EQ(config.sources[0].name, "source 1");
  EXPECT_EQ(config.sources[0].weight, 2.5);
  EXPECT_EQ(config.validation.at(0).name, "held out");
  EXPECT_EQ(config.tokenizer, "tokenizer.json");
  EXPECT_EQ(config.tokenizer_training.vocabulary, 4096);
  ASSERT_TRUE(config.task);
  EXPECT_EQ(config.task->name, "parity");
  EXPECT_EQ(config.task->values.at("length"), 100);
  EXPECT_EQ(config.task->values.at("shortest"), 3);
  ASSERT_EQ(config.objectives.size(), 2U);
  EXPECT_EQ(config.objectives[1].values.at("corruption"), 0.3);
  EXPECT_EQ(config.objectives[1].values.at("span"), 3);
}

TEST(TrainConfig, SaysWhatIsWrong) {
  const auto read = [](ConfigFile& file) { read_train_data_config(file); };
  EXPECT_EQ(complaint("", read), "");
  EXPECT_NE(complaint("[task]\nname = \"parrot\"\n", read).find("run.toml:2: 'name' in [task] is 'parrot'; there are"),
            std::string::npos);
  EXPECT_NE(complaint("[task]\nlength = 3\n", read).find("'name' in [task] is missing"), std::string::npos);
  EXPECT_NE(complaint("[task]\nname = \"parity\"\nlenght = 3\n", read).find("run.toml:3: nobody knows 'lenght'"),
            std::string::npos);
  EXPECT_NE(complaint("[task]\nname = \"parity\"\nlength = 3\nshortest = 4\n", read).find("shortest 4 is above"),
            std::string::npos);
  EXPECT_NE(complaint("[[objective]]\nname = \"infilling\"\nspans = 1.5\n", read).find("run.toml:3: 'spans'"),
            std::string::npos);
  EXPECT_NE(complaint("[[data.source]]\nweight = 1\n", read).find("'tokens' in [data.source] is missing"),
            std::string::npos);
  EXPECT_NE(complaint("[tokenizer]\nvocabulary = 3\n", read).find("run.toml:2:"), std::string::npos);
}

TEST(TrainConfig, OpensItsSources) {
  const tests::TemporaryFolder folder;
  TokenShardWriter writer(10);
  ASSERT_TRUE(writer.add(std::vector<std::int32_t>{1, 2, 3}));
  ASSERT_TRUE(writer.write(folder.path() / "a.ktok", {}, "{}"));
  const TokenSourceConfig config{"a", {folder.path().string()}, 2};
  const auto sources = open_sources(std::span(&config, 1));
  ASSERT_TRUE(sources) << sources.error().message;
  EXPECT_EQ(sources->at(0).corpus.tokens(), 3);
  EXPECT_EQ(sources->at(0).weight, 2);
  const TokenSourceConfig missing{"b", {(folder.path() / "b.ktok").string()}, 1};
  EXPECT_FALSE(open_sources(std::span(&missing, 1)));
}

}  // namespace
}  // namespace krait::train
