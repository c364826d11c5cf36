#include "krait/formats/gguf_metadata.h"

#include <gtest/gtest.h>

#include <limits>

#include "krait/formats/gguf.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/gguf_writer.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::bytes_of;
using tests::ByteWriter;
using tests::expect_error;
using tests::gguf_text;
using tests::GgufWriter;

void expect_refused(const Bytes& file, ErrorCode code, std::initializer_list<std::string_view> parts) {
  expect_error(parse_gguf_metadata(file, "m.gguf"), code, parts);
}

TEST(GgufMetadata, ReadsEveryTypeOfValue) {
  const Bytes file = GgufWriter()
                         .scalar<std::uint8_t>("u8", 0, 255)
                         .scalar<std::int8_t>("i8", 1, -128)
                         .scalar<std::uint16_t>("u16", 2, 65535)
                         .scalar<std::int16_t>("i16", 3, -32768)
                         .scalar<std::uint32_t>("u32", 4, 4294967295U)
                         .scalar<std::int32_t>("i32", 5, -5)
                         .scalar<float>("f32", 6, 0.25F)
                         .scalar<std::uint8_t>("bool", 7, 1)
                         .text("text", "bytes \xff of any kind")
                         .scalar<std::uint64_t>("u64", 10, 9223372036854775807U)
                         .scalar<std::int64_t>("i64", 11, std::numeric_limits<std::int64_t>::min())
                         .scalar<double>("f64", 12, -1e300)
                         .bytes();
  KRAIT_ASSERT_VALUE(const Config config, parse_gguf_metadata(file, "m.gguf"));
  EXPECT_EQ(config.origin(), "m.gguf");
  EXPECT_EQ(config.integer("u8").value(), 255);
  EXPECT_EQ(config.integer("i8").value(), -128);
  EXPECT_EQ(config.integer("u16").value(), 65535);
  EXPECT_EQ(config.integer("i16").value(), -32768);
  EXPECT_EQ(config.integer("u32").value(), 4294967295);
  EXPECT_EQ(config.integer("i32").value(), -5);
  EXPECT_EQ(config.number("f32").value(), 0.25);
  EXPECT_TRUE(config.boolean("bool").value());
  EXPECT_EQ(config.text("text").value(), "bytes \xff of any kind");
  EXPECT_EQ(config.integer("u64").value(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(config.integer("i64").value(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(config.number("f64").value(), -1e300);
}

TEST(GgufMetadata, ReadsArrays) {
  const Bytes row_a =
      ByteWriter().put<std::uint32_t>(4).put<std::uint64_t>(2).put<std::uint32_t>(7).put<std::uint32_t>(8).bytes();
  const Bytes row_b = ByteWriter().put<std::uint32_t>(8).put<std::uint64_t>(1).raw(gguf_text("x")).bytes();
  const Bytes file = GgufWriter()
                         .array("u16", 2, 2, ByteWriter().put<std::uint16_t>(1).put<std::uint16_t>(65535).bytes())
                         .array("f32", 6, 1, ByteWriter().put(0.5F).bytes())
                         .array("bool", 7, 3, ByteWriter().put<std::uint16_t>(0x0001).put<std::uint8_t>(1).bytes())
                         .array("text", 8, 2, ByteWriter().raw(gguf_text("a")).raw(gguf_text("")).bytes())
                         .array("none", 8, 0, {})
                         .array("nested", 9, 2, ByteWriter().raw(row_a).raw(row_b).bytes())
                         .bytes();
  KRAIT_ASSERT_VALUE(const Config config, parse_gguf_metadata(file, "m.gguf"));
  EXPECT_EQ(config.integers("u16").value(), (std::vector<std::int64_t>{1, 65535}));
  EXPECT_EQ(config.numbers("f32").value(), (std::vector<double>{0.5}));
  EXPECT_EQ(std::get<std::vector<bool>>(*config.find("bool")), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(config.texts("text").value(), (std::vector<std::string>{"a", ""}));
  EXPECT_TRUE(config.texts("none").value().empty());
  EXPECT_EQ(config.integers("nested.0").value(), (std::vector<std::int64_t>{7, 8}));
  EXPECT_EQ(config.texts("nested.1").value(), (std::vector<std::string>{"x"}));
}

TEST(GgufMetadata, RefusesOtherMagicAndVersions) {
  expect_refused(bytes_of("GGML"), ErrorCode::kCorrupt, {"does not begin with \"GGUF\"", "m.gguf"});
  GgufWriter writer;
  writer.version = 2;
  EXPECT_TRUE(parse_gguf_metadata(writer.bytes(), "m.gguf").has_value());
  writer.version = 1;
  expect_refused(writer.bytes(), ErrorCode::kUnsupported, {"version 1", "m.gguf"});
  writer.version = 4;
  expect_refused(writer.bytes(), ErrorCode::kUnsupported, {"version 4"});
  writer.version = 0x03000000;
  expect_refused(writer.bytes(), ErrorCode::kUnsupported, {"big-endian", "m.gguf"});
}

TEST(GgufMetadata, RefusesAbsurdCountsBeforeAllocating) {
  const auto header = [](std::uint64_t tensors, std::uint64_t pairs) {
    return ByteWriter().raw("GGUF").put<std::uint32_t>(3).put(tensors).put(pairs).raw(std::string(100, '\0')).bytes();
  };
  const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  expect_refused(header(0, huge), ErrorCode::kCorrupt, {"18446744073709551615 pairs", "100 bytes", "m.gguf"});
  expect_refused(header(huge, 0), ErrorCode::kCorrupt, {"18446744073709551615 tensors", "100 bytes", "m.gguf"});
  for (const std::uint32_t type : {0U, 4U, 7U, 8U, 9U, 12U}) {
    expect_refused(GgufWriter().array("a", type, std::uint64_t{1} << 60, {}).bytes(), ErrorCode::kCorrupt,
                   {"\"a\"", "1152921504606846976 elements", "m.gguf"});
  }
  expect_refused(GgufWriter().pair("t", 8, ByteWriter().put(huge).bytes()).bytes(), ErrorCode::kCorrupt,
                 {"\"t\" ends past the file"});
}

TEST(GgufMetadata, RefusesValuesThatDoNotFit) {
  expect_refused(GgufWriter().scalar<std::uint64_t>("u64", 10, 9223372036854775808U).bytes(), ErrorCode::kUnsupported,
                 {"\"u64\"", "9223372036854775808", "m.gguf"});
  expect_refused(GgufWriter().scalar<std::uint8_t>("b", 7, 2).bytes(), ErrorCode::kCorrupt, {"\"b\"", "value 2"});
  expect_refused(GgufWriter().scalar<std::uint64_t>("x", 13, 0).bytes(), ErrorCode::kUnsupported,
                 {"\"x\"", "unknown type 13"});
  expect_refused(GgufWriter().array("x", 13, 0, {}).bytes(), ErrorCode::kUnsupported, {"\"x\"", "unknown type 13"});
}

TEST(GgufMetadata, RefusesDoubledKeys) {
  expect_refused(GgufWriter().text("k", "1").text("k", "2").bytes(), ErrorCode::kCorrupt, {"\"k\" is there twice"});
}

TEST(GgufMetadata, RefusesBottomlessNesting) {
  ByteWriter nested;
  for (int i = 0; i < 100'000; ++i) nested.put<std::uint32_t>(9).put<std::uint64_t>(1);
  expect_refused(GgufWriter().pair("deep", 9, nested.bytes()).bytes(), ErrorCode::kUnsupported, {"\"deep", "nested"});
}

TEST(GgufMetadata, RefusesNestedArraysThatMultiplyALongKey) {
  ByteWriter rows;
  for (int i = 0; i < 1000; ++i) rows.put<std::uint32_t>(0).put<std::uint64_t>(0);
  expect_refused(GgufWriter().array(std::string(60'000, 'k'), 9, 1000, rows.bytes()).bytes(), ErrorCode::kUnsupported,
                 {"nested arrays"});
}

TEST(GgufMetadata, RefusesFilesCutShortAnywhere) {
  GgufWriter writer;
  writer.alignment = 1;
  const Bytes file = writer.text("text", "abc")
                         .array("texts", 8, 2, ByteWriter().raw(gguf_text("a")).raw(gguf_text("b")).bytes())
                         .scalar<double>("f64", 12, 1)
                         .bytes();
  ASSERT_TRUE(parse_gguf_metadata(file, "m.gguf").has_value());
  for (std::size_t length = 0; length < file.size(); ++length) {
    expect_refused(tests::first_bytes(file, length), ErrorCode::kCorrupt, {"[gguf]", "m.gguf"});
  }
}

}  // namespace
}  // namespace krait::formats
