#include "krait/formats/weight_source_sharded.h"

#include <gtest/gtest.h>

#include "krait/formats/safetensors.h"
#include "krait/formats/safetensors_writer.h"
#include "tests/formats/byte_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::expect_error;
using tests::TemporaryFolder;

void write_shard(const std::filesystem::path& path, std::initializer_list<const char*> names, std::byte value) {
  const Bytes data(1, value);
  std::vector<NamedTensor> tensors;
  for (const char* name : names) tensors.push_back({name, {DType::kU8, {1}, data}});
  ASSERT_TRUE(write_safetensors(path, tensors).has_value());
}

auto open_index(const std::filesystem::path& index) {
  return open_sharded(index, Config("given"),
                      [](const std::filesystem::path& shard) { return open_safetensors(shard, Config()); });
}

TEST(ShardedWeights, JoinTheirShards) {
  const TemporaryFolder folder;
  write_shard(folder.path() / "1.safetensors", {"c.weight", "a"}, std::byte{1});
  write_shard(folder.path() / "2.safetensors", {"b", "unlisted"}, std::byte{2});
  const auto index = folder.write("i.json", R"({"weight_map": {"c.weight": "1.safetensors", "a": "1.safetensors",
                                                               "b": "2.safetensors"}})");
  KRAIT_ASSERT_VALUE(const auto source, open_index(index));
  EXPECT_EQ(source->format(), "safetensors");
  EXPECT_EQ(source->config().origin(), "given");
  ASSERT_EQ(source->tensors().size(), 3U);
  EXPECT_EQ(source->tensors()[0].name, "a");
  EXPECT_EQ(source->tensors()[1].name, "b");
  EXPECT_EQ(source->tensors()[2].name, "c.weight");
  EXPECT_EQ(source->view("a")->bytes[0], std::byte{1});
  EXPECT_EQ(source->view("b")->bytes[0], std::byte{2});
  EXPECT_EQ(source->view("c.weight")->bytes[0], std::byte{1});
  expect_error(source->view("unlisted"), ErrorCode::kNotFound, {"\"unlisted\"", "i.json"});
}

TEST(ShardedWeights, NameTheTensorThatItsShardLacks) {
  const TemporaryFolder folder;
  write_shard(folder.path() / "1.safetensors", {"a"}, std::byte{1});
  expect_error(open_index(folder.write("i.json", R"({"weight_map": {"z": "1.safetensors"}})")), ErrorCode::kCorrupt,
               {"\"z\"", "\"1.safetensors\"", "i.json"});
}

TEST(ShardedWeights, NameTheShardThatIsNotThere) {
  const TemporaryFolder folder;
  expect_error(open_index(folder.write("i.json", R"({"weight_map": {"z": "gone.safetensors"}})")), ErrorCode::kNotFound,
               {"gone.safetensors"});
}

TEST(ShardedWeights, RefuseNamesThatReachOutsideTheDirectory) {
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "./x.safetensors", "..", ".", "",
                           "a/../../x", "..\\\\x", "x\\u0000.safetensors"}) {
    const std::string text = std::string(R"({"weight_map": {"layer.w": ")") + name + "\"}}";
    expect_error(parse_shard_index(text, "dir/i.json"), ErrorCode::kCorrupt,
                 {"\"layer.w\"", "not a plain file name", "dir/i.json"});
  }
  expect_error(parse_shard_index(R"({"weight_map": {"w": "../x"}})", "i.json"), ErrorCode::kCorrupt, {"\"../x\""});
  EXPECT_TRUE(parse_shard_index(R"({"weight_map": {"w": "..x-00001-of-2.safetensors"}})", "i.json").has_value());
}

TEST(ShardedWeights, RefuseAnIndexWithoutNames) {
  expect_error(parse_shard_index("{}", "i.json"), ErrorCode::kCorrupt, {"weight_map", "no tensor", "i.json"});
  expect_error(parse_shard_index(R"({"weight_map": {}})", "i.json"), ErrorCode::kCorrupt, {"no tensor"});
  expect_error(parse_shard_index(R"({"weight_map": {"w": 1}})", "i.json"), ErrorCode::kCorrupt, {"\"w\"", "not text"});
  expect_error(parse_shard_index("[", "i.json"), ErrorCode::kCorrupt, {"i.json"});
}

}  // namespace
}  // namespace krait::formats
