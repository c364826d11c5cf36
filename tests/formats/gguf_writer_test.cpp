#include "krait/formats/gguf_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "krait/formats/gguf.h"
#include "krait/formats/mapped_file.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/gguf_writer.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::ByteWriter;
using tests::expect_error;
using tests::gguf_text;

Bytes numbered(std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + count);
  return bytes;
}

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

Config config_of(std::initializer_list<std::pair<std::string, Config::Value>> pairs) {
  Config config;
  for (const auto& [key, value] : pairs) config.set(key, value);
  return config;
}

TEST(WriteGguf, WhatIsWrittenIsReadBack) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.gguf";
  const Bytes a = numbered(24), b = numbered(3), c = numbered(2), q = numbered(4 * 34), none;
  const NamedTensor tensors[] = {{"blk.0.ü", {DType::kF32, {2, 3}, a}},
                                 {"b", {DType::kI8, {3}, b}},
                                 {"scalar", {DType::kF16, {}, c}},
                                 {"none", {DType::kBF16, {0, 4}, none}},
                                 {"q", {DType::kQ8_0, {1, 2, 64}, q}}};
  const Config metadata = config_of({{"general.architecture", std::string("mamba2")},
                                     {"count", std::int64_t{4294967295}},
                                     {"below", std::int64_t{-7}},
                                     {"far", std::int64_t{-5000000000}},
                                     {"share", 0.25},
                                     {"none", -std::numeric_limits<double>::infinity()},
                                     {"yes", true},
                                     {"no", false},
                                     {"types", std::vector<std::int64_t>{1, -2, 3}},
                                     {"offsets", std::vector<std::int64_t>{1, 5000000000}},
                                     {"scores", std::vector<double>{0.5, -1.5}},
                                     {"flags", std::vector<bool>{true, false, true}},
                                     {"words", std::vector<std::string>{"", "ġ", std::string("a\0b", 3)}},
                                     {"no_words", std::vector<std::string>{}}});
  const auto written = write_gguf(path, tensors, metadata);
  ASSERT_TRUE(written.has_value()) << written.error().message;
  EXPECT_EQ(files_in(folder.path()), 1U) << "the temporary file is gone";

  KRAIT_ASSERT_VALUE(const auto source, open_gguf(path));
  EXPECT_EQ(source->config().values(), metadata.values());
  ASSERT_EQ(source->tensors().size(), 5U);
  for (const NamedTensor& tensor : tensors) {
    KRAIT_ASSERT_VALUE(const TensorView view, source->view(tensor.name));
    EXPECT_EQ(view.dtype, tensor.view.dtype);
    EXPECT_EQ(view.shape, tensor.view.shape);
    EXPECT_EQ(Bytes(view.bytes.begin(), view.bytes.end()), Bytes(tensor.view.bytes.begin(), tensor.view.bytes.end()));
    if (!view.bytes.empty()) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) % 32, 0U) << tensor.name;
    }
  }
}

// Byte for byte: the types that engines insist on cannot be seen through a Config.
TEST(WriteGguf, ChoosesTheTypesThatEnginesInsistOn) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.gguf";
  const Bytes first = numbered(10), second = numbered(4);
  const NamedTensor tensors[] = {{"z", {DType::kF16, {1, 5}, first}}, {"a", {DType::kF32, {1}, second}}};
  const Config metadata = config_of({{"a.bool", true},
                                     {"b.u32", std::int64_t{24}},
                                     {"c.i32", std::int64_t{-1}},
                                     {"d.i64", std::int64_t{4294967296}},
                                     {"e.f32", 1e-5},
                                     {"f.text", std::string("gpt2")},
                                     {"g.i32s", std::vector<std::int64_t>{3, 1}},
                                     {"h.f32s", std::vector<double>{0.5}},
                                     {"i.texts", std::vector<std::string>{"x", "yz"}}});
  ASSERT_TRUE(write_gguf(path, tensors, metadata).has_value());
  const Bytes expected = tests::GgufWriter()
                             .scalar<std::uint8_t>("a.bool", 7, 1)
                             .scalar<std::uint32_t>("b.u32", 4, 24)
                             .scalar<std::int32_t>("c.i32", 5, -1)
                             .scalar<std::int64_t>("d.i64", 11, 4294967296)
                             .scalar<float>("e.f32", 6, 1e-5F)
                             .text("f.text", "gpt2")
                             .array("g.i32s", 5, 2, ByteWriter().put<std::int32_t>(3).put<std::int32_t>(1).bytes())
                             .array("h.f32s", 6, 1, ByteWriter().put(0.5F).bytes())
                             .array("i.texts", 8, 2, ByteWriter().raw(gguf_text("x")).raw(gguf_text("yz")).bytes())
                             .tensor({"z", {5, 1}, 1, 0})
                             .tensor({"a", {1}, 0, 32})
                             .data(ByteWriter().raw(first).pad_to(32).raw(second).pad_to(32).bytes())
                             .bytes();
  KRAIT_ASSERT_VALUE(const MappedFile file, MappedFile::open(path));
  EXPECT_EQ(Bytes(file.bytes().begin(), file.bytes().end()), expected);
}

TEST(WriteGguf, FollowsTheAlignmentOfTheMetadata) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.gguf";
  const Bytes a = numbered(1), b = numbered(2);
  const NamedTensor tensors[] = {{"a", {DType::kI8, {1}, a}}, {"b", {DType::kI8, {2}, b}}};
  ASSERT_TRUE(write_gguf(path, tensors, config_of({{"general.alignment", std::int64_t{4096}}})).has_value());
  EXPECT_EQ(std::filesystem::file_size(path), 3 * 4096U);
  KRAIT_ASSERT_VALUE(const auto source, open_gguf(path));
  EXPECT_EQ(source->view("b")->bytes[1], b[1]);
  for (const std::int64_t alignment : {-32, 0, 48, 1 << 21}) {
    expect_error(write_gguf(path, tensors, config_of({{"general.alignment", alignment}})), ErrorCode::kInvalidArgument,
                 {"general.alignment is", std::to_string(alignment), "w.gguf"});
  }
}

TEST(WriteGguf, CopiesASourceWhole) {
  const tests::TemporaryFolder folder;
  const Bytes file = tests::GgufWriter()
                         .text("general.architecture", "mamba")
                         .scalar<std::uint32_t>("mamba.block_count", 4, 2)
                         .tensor({"a", {2}, 24, 0})
                         .tensor({"b", {32, 2}, 2, 32})
                         .data(ByteWriter().raw(numbered(2)).pad_to(32).raw(numbered(36)).pad_to(32).bytes())
                         .bytes();
  KRAIT_ASSERT_VALUE(const auto source, parse_gguf(file, "m.gguf"));
  const auto path = folder.path() / "copy.gguf";
  ASSERT_TRUE(write_gguf(path, *source).has_value());
  KRAIT_ASSERT_VALUE(const MappedFile copy, MappedFile::open(path));
  EXPECT_EQ(Bytes(copy.bytes().begin(), copy.bytes().end()), file);
}

TEST(WriteGguf, ReplacesAFileOnlyWhenComplete) {
  const tests::TemporaryFolder folder;
  const auto path = folder.write("w.gguf", "old");
  const Bytes a = numbered(4);
  const NamedTensor wrong[] = {{"a", {DType::kF32, {2}, a}}};
  ASSERT_FALSE(write_gguf(path, wrong, Config()).has_value());
  EXPECT_EQ(std::filesystem::file_size(path), 3U);
  const NamedTensor right[] = {{"a", {DType::kF32, {1}, a}}};
  ASSERT_TRUE(write_gguf(path, right, Config()).has_value());
  EXPECT_TRUE(open_gguf(path).has_value());
}

TEST(WriteGguf, RefusesTensorsThatReadersWould) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.gguf";
  const Bytes bytes = numbered(34);
  const auto refuse = [&](std::vector<NamedTensor> tensors, std::initializer_list<std::string_view> parts) {
    expect_error(write_gguf(path, tensors, Config()), ErrorCode::kInvalidArgument, parts);
  };
  const TensorView good{DType::kI8, {34}, bytes};
  refuse({{"w", {DType::kU8, {34}, bytes}}}, {"\"w\"", "u8", "w.gguf"});
  refuse({{"w", {DType::kI8, {33}, bytes}}}, {"\"w\"", "[33]", "34 bytes"});
  refuse({{"w", {DType::kI8, {-34}, bytes}}}, {"\"w\"", "[-34]"});
  refuse({{"w", {DType::kQ8_0, {2, 16}, bytes}}}, {"\"w\"", "rows of 16", "blocks of 32"});
  refuse({{"w", {DType::kI8, {1, 1, 1, 1, 34}, bytes}}}, {"\"w\"", "5 dimensions"});
  refuse({{"w", good}, {"w", good}}, {"\"w\" is given twice"});
  refuse({{"", good}}, {"0 bytes"});
  refuse({{std::string(64, 'n'), good}}, {"64 bytes: 1 to 63"});
  refuse({{"\xff", good}}, {"UTF-8", "w.gguf"});
  EXPECT_EQ(files_in(folder.path()), 0U);
}

TEST(WriteGguf, RefusesMetadataThatTheFormatDoesNotHold) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.gguf";
  const auto refuse = [&](const std::string& key, Config::Value value, std::initializer_list<std::string_view> parts) {
    expect_error(write_gguf(path, std::span<const NamedTensor>(), config_of({{key, std::move(value)}})),
                 ErrorCode::kInvalidArgument, parts);
  };
  refuse("nothing", std::monostate(), {"\"nothing\"", "null", "w.gguf"});
  refuse("large", 1e39, {"\"large\"", "1e+39"});
  refuse("some", std::vector<double>{0, -1e300}, {"\"some\"", "-1e+300"});
  refuse("text", std::string("\xc3"), {"\"text\"", "UTF-8"});
  refuse("texts", std::vector<std::string>{"a", "\xed\xa0\x80"}, {"\"texts\"", "UTF-8"});
  refuse("\xff", true, {"UTF-8"});
  refuse("", true, {"0 bytes"});
  refuse(std::string(65536, 'k'), true, {"65536 bytes"});
  EXPECT_EQ(files_in(folder.path()), 0U);
}

TEST(WriteGguf, SaysWhereItCannotWrite) {
  const tests::TemporaryFolder folder;
  expect_error(write_gguf(folder.path() / "absent" / "w.gguf", std::span<const NamedTensor>(), Config()),
               ErrorCode::kInputOutput, {"[gguf]", "absent/w.gguf", "No such file"});
}

}  // namespace
}  // namespace krait::formats
