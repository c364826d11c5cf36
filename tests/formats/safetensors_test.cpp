#include "krait/formats/safetensors.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/formats/byte_writer.h"
#include "tests/formats/error_expectation.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::ByteWriter;
using tests::expect_error;

Bytes file_of(const std::string& header, std::size_t data_bytes) {
  ByteWriter writer;
  writer.put(static_cast<std::uint64_t>(header.size())).raw(header);
  for (std::size_t i = 0; i < data_bytes; ++i) writer.put(static_cast<std::uint8_t>(i));
  return writer.bytes();
}

auto parse(const Bytes& file) { return parse_safetensors(file, "m.safetensors"); }
auto parse(const std::string& header, std::size_t data_bytes) {
  // The source must not be used: `file` ends with this function. Only the outcome counts.
  const Bytes file = file_of(header, data_bytes);
  return parse(file);
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape, std::uint64_t begin,
                   std::uint64_t end) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})", name, dtype, shape, begin, end);
}

std::string header_of(const std::vector<std::string>& members) {
  return fmt::format("{{{}}}  ", fmt::join(members, ","));
}

TEST(Safetensors, ListsTensorsByNameAndViewsThemInPlace) {
  const Bytes file = file_of(header_of({tensor("w", "F32", "[2,1]", 2, 10), tensor("b", "U8", "[2]", 0, 2),
                                        tensor("scalar", "I8", "[]", 10, 11), tensor("none", "F64", "[0,7]", 11, 11),
                                        R"("__metadata__":{"format":"pt"})"}),
                             11);
  KRAIT_ASSERT_VALUE(const auto source, parse(file));
  EXPECT_EQ(source->format(), "safetensors");
  EXPECT_EQ(source->origin(), "m.safetensors");
  ASSERT_EQ(source->tensors().size(), 4U);
  EXPECT_EQ(source->tensors()[0].name, "b");
  EXPECT_EQ(source->tensors()[3].name, "w");
  EXPECT_EQ(source->tensors()[3].bytes, 8U);

  KRAIT_ASSERT_VALUE(const TensorView w, source->view("w"));
  EXPECT_EQ(w.dtype, DType::kF32);
  EXPECT_EQ(w.shape, (Shape{2, 1}));
  EXPECT_EQ(w.bytes.data(), file.data() + file.size() - 11 + 2);
  EXPECT_EQ(w.bytes.size(), 8U);
  EXPECT_EQ(source->view("scalar")->bytes[0], std::byte{10});
  EXPECT_EQ(source->view("scalar")->shape, Shape{});
  EXPECT_EQ(source->view("none")->shape, (Shape{0, 7}));
  expect_error(source->view("absent"), ErrorCode::kNotFound, {"\"absent\"", "m.safetensors"});
}

TEST(Safetensors, KnowsEveryDtype) {
  const std::pair<const char*, std::size_t> dtypes[] = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},  {"I32", 4},     {"I16", 2},    {"I8", 1},
      {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1},   {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : dtypes) {
    const auto source = parse(header_of({tensor("x", name, "[3]", 0, 3 * bytes)}), 3 * bytes);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    EXPECT_EQ(safetensors_dtype_name((*source)->tensors()[0].dtype), name);
  }
  EXPECT_EQ(safetensors_dtype_name(DType::kQ4_K), "");
}

TEST(Safetensors, AnEmptyFileOfTensorsIsFine) {
  const auto source = parse("{}", 0);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  EXPECT_TRUE((*source)->tensors().empty());
}

TEST(Safetensors, RefusesFilesCutShortAnywhere) {
  const Bytes file = file_of(header_of({tensor("a", "F32", "[2]", 0, 8), tensor("b", "U8", "[3]", 8, 11)}), 11);
  ASSERT_TRUE(parse(file).has_value());
  for (std::size_t length = 0; length < file.size(); ++length) {
    const Bytes part = tests::first_bytes(file, length);
    expect_error(parse(part), ErrorCode::kCorrupt, {"[safetensors]", "m.safetensors"});
  }
}

TEST(Safetensors, SurvivesEveryFlippedBitOfTheHeader) {
  const Bytes file = file_of(header_of({tensor("a", "F32", "[2]", 0, 8)}), 8);
  int refused = 0;
  for (std::size_t i = 0; i < file.size() - 8; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes flipped = file;
      flipped[i] ^= std::byte{1} << bit;
      const auto source = parse(flipped);
      if (!source) {
        ++refused;
        EXPECT_NE(source.error().message.find("m.safetensors"), std::string::npos);
      }
    }
  }
  // What may pass: another letter in the name, another dtype of four bytes, a space that became a different one.
  EXPECT_GT(refused, static_cast<int>(file.size() - 8) * 8 * 9 / 10);
}

TEST(Safetensors, RefusesAHeaderPastTheFile) {
  Bytes file = file_of("{}", 0);
  file[0] = std::byte{200};
  expect_error(parse(file), ErrorCode::kCorrupt, {"header ends past the file: 208 > 10", "m.safetensors"});
}

TEST(Safetensors, RefusesAnAbsurdHeaderLength) {
  Bytes file = file_of("{}", 0);
  for (int i = 0; i < 8; ++i) file[static_cast<std::size_t>(i)] = std::byte{0xff};
  expect_error(parse(file), ErrorCode::kCorrupt, {"18446744073709551615 > 100000000", "m.safetensors"});
}

TEST(Safetensors, RefusesATensorPastTheEnd) {
  expect_error(parse(header_of({tensor("far", "F32", "[2]", 4, 12)}), 11), ErrorCode::kCorrupt,
               {"\"far\"", "[4, 12]", "11 bytes", "m.safetensors"});
  expect_error(parse(header_of({tensor("far", "U8", "[1]", 18446744073709551614U, 18446744073709551615U)}), 11),
               ErrorCode::kCorrupt, {"\"far\"", "18446744073709551615"});
}

TEST(Safetensors, RefusesOffsetsInTheWrongOrder) {
  expect_error(parse(header_of({tensor("back", "U8", "[0]", 4, 3)}), 8), ErrorCode::kCorrupt, {"\"back\"", "[4, 3]"});
}

TEST(Safetensors, RefusesAShapeThatOverflows) {
  for (const char* shape : {"[4294967296,4294967296]", "[9223372036854775807]", "[3037000500,3037000500,2]"}) {
    expect_error(parse(header_of({tensor("huge", "F32", shape, 0, 8)}), 8), ErrorCode::kCorrupt,
                 {"\"huge\"", "overflows"});
  }
  expect_error(parse(header_of({tensor("huge", "F32", "[18446744073709551615]", 0, 8)}), 8), ErrorCode::kCorrupt,
               {"\"huge\"", "18446744073709551615", "overflows"});
}

TEST(Safetensors, RefusesBytesThatDoNotFitTheShape) {
  expect_error(parse(header_of({tensor("w", "F16", "[2,3]", 0, 8)}), 8), ErrorCode::kCorrupt,
               {"\"w\"", "[2, 3]", "F16", "12 bytes", "8", "m.safetensors"});
}

TEST(Safetensors, RefusesOverlappingTensors) {
  expect_error(parse(header_of({tensor("a", "U8", "[6]", 0, 6), tensor("b", "U8", "[4]", 4, 8)}), 8),
               ErrorCode::kCorrupt, {"\"b\" overlaps tensor \"a\"", "m.safetensors"});
  expect_error(parse(header_of({tensor("a", "U8", "[8]", 0, 8), tensor("b", "U8", "[8]", 0, 8)}), 8),
               ErrorCode::kCorrupt, {"overlaps"});
}

TEST(Safetensors, RefusesHoles) {
  expect_error(parse(header_of({tensor("a", "U8", "[2]", 0, 2), tensor("b", "U8", "[4]", 4, 8)}), 8),
               ErrorCode::kCorrupt, {"\"b\"", "begins at 4", "ends at 2", "no holes"});
  expect_error(parse(header_of({tensor("a", "U8", "[2]", 0, 2)}), 8), ErrorCode::kCorrupt,
               {"2 of 8 bytes", "no holes"});
  expect_error(parse(header_of({tensor("a", "U8", "[7]", 1, 8)}), 8), ErrorCode::kCorrupt, {"\"a\"", "no holes"});
}

TEST(Safetensors, RefusesDoubledNames) {
  expect_error(parse(header_of({tensor("a", "U8", "[4]", 0, 4), tensor("a", "U8", "[4]", 4, 8)}), 8),
               ErrorCode::kCorrupt, {"\"a\" is there twice"});
  expect_error(parse(R"({"a":{"dtype":"U8","dtype":"I8","shape":[8],"data_offsets":[0,8]}})", 8), ErrorCode::kCorrupt,
               {"\"a\"", "\"dtype\" twice"});
}

TEST(Safetensors, RefusesUnknownDtypes) {
  expect_error(parse(header_of({tensor("w", "F4", "[8]", 0, 8)}), 8), ErrorCode::kUnsupported, {"\"w\"", "\"F4\""});
  expect_error(parse(header_of({tensor("w", "f32", "[2]", 0, 8)}), 8), ErrorCode::kUnsupported, {"\"w\"", "\"f32\""});
}

TEST(Safetensors, RefusesAnythingElseInTheHeader) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "begin with '{'"},
      {R"( {})", "begin with '{'"},
      {R"({} x)", "not JSON"},
      {R"({"a":1})", "\"a\""},
      {R"({"a":[]})", "\"a\""},
      {R"({"a":{}})", "\"a\" lacks"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", "\"a\" lacks"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "\"a\" lacks"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})", "more than two"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", "-1"},
      {R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", "1.5"},
      {R"({"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", "\"shape\""},
      {R"({"a":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}})", "\"dtype\""},
      {R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", "an array"},
      {R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", "a text"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"extra":1}})", "\"extra\""},
      {R"({"__metadata__":{"a":1}})", "__metadata__"},
      {R"({"__metadata__":[]})", "__metadata__"},
      {R"({"__metadata__":{"a":{}}})", "__metadata__"},
  };
  for (const auto& [header, part] : cases) {
    SCOPED_TRACE(header);
    expect_error(parse(header, 1), ErrorCode::kCorrupt, {part, "m.safetensors"});
  }
}

}  // namespace
}  // namespace krait::formats
