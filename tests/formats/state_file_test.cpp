#include "krait/formats/state_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

#include "krait/core/crc32c.h"
#include "krait/core/random.h"
#include "krait/formats/state_file_layout.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

using tests::expect_error;
using tests::TemporaryFolder;

std::vector<std::byte> numbers(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(count);
  // Few values, so that compressing pays.
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() % 5);
  return bytes;
}

struct Example {
  std::vector<std::byte> ssm = numbers(4 * 3 * 7 * 5, 1);
  std::vector<std::byte> pages[2] = {numbers(64 * 8 * 2, 2), numbers(64 * 8 * 2, 3)};
  StateDescription description{
      .identity = {.architecture = "mamba2", .weights = "int8", .model = {1, 2}, .tokenizer = {3, 4}},
      .position = 99,
      .prefix = {5, std::numeric_limits<std::uint64_t>::max()},
      .sampler = StateSampler{{{"temperature", 0.7}, {"logit_bias.3", -1.25}}, 12345678901234567890ULL, 42},
      .note = "read from caf\xc3\xa9.txt"};
  std::vector<StateSource> sections = {
      {"layers.0.ssm", "recurrent", DType::kF32, {3, 7, 5}, {ssm}},
      {"layers.1.kv", "kv", DType::kBF16, {128, 8}, {pages[0], pages[1]}},
      {"empty", "recurrent", DType::kF32, {0, 4}, {}},
  };
};

std::vector<std::byte> content_of(const StateObject& object, std::string_view name) {
  const StateSection* section = object.find(name);
  EXPECT_NE(section, nullptr) << name;
  std::vector<std::byte> content(section->bytes);
  const auto read = object.read(*section, content);
  EXPECT_TRUE(read.has_value()) << read.error().message;
  return content;
}

void expect_example(const StateObject& object, const Example& example) {
  EXPECT_EQ(object.description().identity, example.description.identity);
  EXPECT_EQ(object.description().position, 99);
  EXPECT_EQ(object.description().prefix, example.description.prefix);
  EXPECT_EQ(object.description().sampler, example.description.sampler);
  EXPECT_EQ(object.description().note, example.description.note);
  ASSERT_EQ(object.sections().size(), 3U);
  EXPECT_EQ(object.find("layers.0.ssm")->shape, (Shape{3, 7, 5}));
  EXPECT_EQ(object.find("layers.1.kv")->role, "kv");
  EXPECT_EQ(object.find("layers.1.kv")->dtype, DType::kBF16);
  EXPECT_EQ(content_of(object, "layers.0.ssm"), example.ssm);
  std::vector<std::byte> both = example.pages[0];
  both.insert(both.end(), example.pages[1].begin(), example.pages[1].end());
  EXPECT_EQ(content_of(object, "layers.1.kv"), both);
  EXPECT_TRUE(content_of(object, "empty").empty());
  EXPECT_EQ(object.find("layers.2.ssm"), nullptr);
  const auto verified = object.verify();
  EXPECT_TRUE(verified.has_value()) << verified.error().message;
}

TEST(StateFile, ComesBackAsItWasWritten) {
  const Example example;
  const TemporaryFolder folder;
  for (const int level : {0, 3}) {
    const auto path = folder.path() / fmt::format("example-{}.state", level);
    const auto written = write_state_file(path, example.description, example.sections, {level});
    ASSERT_TRUE(written.has_value()) << written.error().message;
    KRAIT_ASSERT_VALUE(const StateObject object, StateObject::open(path));
    expect_example(object, example);
    EXPECT_EQ(object.find("layers.0.ssm")->compressed, level != 0);
    for (const StateSection& section : object.sections()) EXPECT_EQ(section.offset % 64, 0U);
    EXPECT_EQ(object.bytes(), std::filesystem::file_size(path));
  }
  EXPECT_LT(std::filesystem::file_size(folder.path() / "example-3.state"),
            std::filesystem::file_size(folder.path() / "example-0.state"));
}

TEST(StateFile, InMemoryTheBytesAreTheSame) {
  const Example example;
  const TemporaryFolder folder;
  KRAIT_ASSERT_VALUE(const auto bytes, encode_state(example.description, example.sections));
  ASSERT_TRUE(write_state_file(folder.path() / "a", example.description, example.sections).has_value());
  KRAIT_ASSERT_VALUE(const auto mapped, MappedFile::open(folder.path() / "a"));
  EXPECT_TRUE(std::ranges::equal(bytes, mapped.bytes()));
  KRAIT_ASSERT_VALUE(const StateObject object, StateObject::parse(bytes, "memory"));
  expect_example(object, example);
}

// Wherever it is: in the prelude, the header, a section, the padding between them.
TEST(StateFile, EveryFlippedBitIsFound) {
  const Example example;
  for (const int level : {0, 3}) {
    KRAIT_ASSERT_VALUE(auto bytes, encode_state(example.description, example.sections, {level}));
    Random random(11);
    const auto found = [&](std::uint64_t bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      const auto object = StateObject::parse(bytes, "flipped");
      const bool caught = !object || !object->verify();
      bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      return caught;
    };
    for (std::uint64_t bit = 0; bit < 64 * 8; ++bit) ASSERT_TRUE(found(bit)) << "bit " << bit << " of the prelude";
    for (int i = 0; i < 2000; ++i) {
      const std::uint64_t bit = random.next() % (bytes.size() * 8);
      ASSERT_TRUE(found(bit)) << "bit " << bit;
    }
    KRAIT_ASSERT_VALUE(const StateObject whole, StateObject::parse(bytes, "whole"));
    EXPECT_TRUE(whole.verify().has_value());
  }
}

TEST(StateFile, ACutObjectIsRefused) {
  const Example example;
  KRAIT_ASSERT_VALUE(const auto bytes, encode_state(example.description, example.sections));
  for (std::size_t length = 0; length < bytes.size(); length += 1 + length / 7) {
    EXPECT_FALSE(StateObject::parse(std::span(bytes).first(length), "cut").has_value()) << length;
  }
  std::vector<std::byte> longer = bytes;
  longer.resize(bytes.size() + 64);
  expect_error(StateObject::parse(longer, "long.state"), ErrorCode::kCorrupt, {"cut or added to", "long.state"});
}

// A header as somebody who knows the format would forge it, with right checksums.
std::vector<std::byte> forged(std::string_view header, std::uint64_t more = 256) {
  StatePrelude prelude;
  prelude.version = kStateFileVersion;
  prelude.header_bytes = header.size();
  prelude.header_crc32c = crc32c(std::as_bytes(std::span(header)));
  prelude.file_bytes = state_aligned(sizeof prelude + header.size()) + more;
  prelude.prelude_crc32c = crc32c(prelude.bytes().first(60));
  std::vector<std::byte> bytes(prelude.file_bytes);
  std::memcpy(bytes.data(), &prelude, sizeof prelude);
  std::memcpy(bytes.data() + sizeof prelude, header.data(), header.size());
  return bytes;
}

std::string header_with(const std::string& section, const std::string& position = "7") {
  return R"({"model": {"architecture": "m", "weights": "f32", "hash": "00000000000000000000000000000001"},
    "tokenizer": {"hash": "00000000000000000000000000000002"}, "position": )" +
         position + R"(, "prefix": "00000000000000000000000000000003", "sections": [)" + section + "]}";
}

TEST(StateFile, AbsurdHeadersAreRefusedBeforeAnythingIsAllocated) {
  struct Case {
    std::string header;
    std::string says;
  };
  const auto section = [](const std::string& changes) {
    return header_with(R"({"name": "a", "role": "recurrent", "crc32c": 0, )" + changes + "}");
  };
  const Case cases[] = {
      {"", "header"},
      {"[]", "no object"},
      {"{}", "\"model\" is missing"},
      {header_with("", "-1"), "\"position\""},
      {header_with("", "1.5"), "\"position\""},
      {header_with("", "18446744073709551615"), "\"position\""},
      {section(R"("dtype": "f33", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 0)"), "f33"},
      {section(R"("dtype": "f32", "shape": [-1], "bytes": 4, "stored_bytes": 4, "offset": 0)"), "-1"},
      {section(R"("dtype": "f32", "shape": 3, "bytes": 4, "stored_bytes": 4, "offset": 0)"), "shape"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 32)"), "do not lie"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 4096)"), "do not lie"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 9223372036854775744)"),
       "do not lie"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 9223372036854775807, "stored_bytes": 9223372036854775807,
                  "offset": 0)"),
       "do not lie"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 99999999999, "stored_bytes": 4, "offset": 0)"),
       "without compression"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 0, "compression": "rot13")"),
       "rot13"},
      {section(R"("dtype": "f32", "shape": [1], "bytes": 9223372036854775807, "stored_bytes": 4, "offset": 0,
                  "compression": "zstd")"),
       "cannot be compressed"},
      {header_with(R"({"name": "a", "role": "r", "crc32c": 0, "dtype": "f32", "shape": [1], "bytes": 128,
          "stored_bytes": 128, "offset": 0}, {"name": "b", "role": "r", "crc32c": 0, "dtype": "f32", "shape": [1],
          "bytes": 4, "stored_bytes": 4, "offset": 64})"),
       "overlaps"},
  };
  for (const Case& c : cases) {
    expect_error(StateObject::parse(forged(c.header), "forged.state"), ErrorCode::kCorrupt, {c.says, "forged.state"});
  }
  // What the cases above vary is otherwise right.
  const auto object = StateObject::parse(
      forged(section(R"("dtype": "f32", "shape": [1], "bytes": 4, "stored_bytes": 4, "offset": 0)")), "right");
  EXPECT_TRUE(object.has_value()) << object.error().message;
}

TEST(StateFile, ACompressedSectionThatIsNoneIsRefused) {
  const auto bytes = forged(header_with(R"({"name": "a", "role": "r", "crc32c": 0, "dtype": "f32", "shape": [4],
      "bytes": 16, "stored_bytes": 20, "offset": 0, "compression": "zstd"})"));
  KRAIT_ASSERT_VALUE(const StateObject object, StateObject::parse(bytes, "forged.state"));
  std::vector<std::byte> out(16);
  expect_error(object.read(object.sections()[0], out), ErrorCode::kCorrupt, {"\"a\"", "decompress", "forged.state"});
}

TEST(StateFile, OtherFilesAndVersionsAreToldApart) {
  expect_error(StateObject::parse(std::vector<std::byte>(200), "zeros"), ErrorCode::kCorrupt, {"no state object"});
  StatePrelude prelude;
  prelude.endianness = 0x04030201;
  expect_error(StateObject::parse(prelude.bytes(), "big"), ErrorCode::kUnsupported, {"byte order", "04030201"});
  prelude = {};
  prelude.version = 2;
  prelude.prelude_crc32c = crc32c(prelude.bytes().first(60));
  expect_error(StateObject::parse(prelude.bytes(), "new"), ErrorCode::kUnsupported, {"version 2"});
  const TemporaryFolder folder;
  expect_error(StateObject::open(folder.path() / "none.state"), ErrorCode::kNotFound, {"none.state"});
}

}  // namespace
}  // namespace krait::formats
