#include "krait/formats/gguf.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/formats/error_expectation.h"
#include "tests/formats/gguf_writer.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::bytes_of;
using tests::ByteWriter;
using tests::expect_error;
using tests::GgufWriter;

constexpr std::uint32_t kF32 = 0, kF16 = 1, kQ8_0 = 8, kI8 = 24;

void expect_refused(const Bytes& file, ErrorCode code, std::initializer_list<std::string_view> parts) {
  expect_error(parse_gguf(file, "m.gguf"), code, parts);
}

Bytes zeros(std::size_t count) { return Bytes(count); }

TEST(Gguf, PutsDimensionsIntoRowMajorOrder) {
  const Bytes file = GgufWriter()
                         .text("general.architecture", "mamba2")
                         .tensor({"w", {4, 3, 2}, kF32, 0})
                         .tensor({"b", {5}, kI8, 96})
                         .tensor({"scalar", {}, kF16, 128})
                         .data(zeros(130))
                         .bytes();
  KRAIT_ASSERT_VALUE(const auto source, parse_gguf(file, "m.gguf"));
  EXPECT_EQ(source->format(), "gguf");
  EXPECT_EQ(source->origin(), "m.gguf");
  EXPECT_EQ(source->config().text("general.architecture").value(), "mamba2");
  ASSERT_EQ(source->tensors().size(), 3U);
  KRAIT_ASSERT_VALUE(const TensorView w, source->view("w"));
  EXPECT_EQ(w.shape, (Shape{2, 3, 4}));
  EXPECT_EQ(w.dtype, DType::kF32);
  EXPECT_EQ(w.bytes.data(), file.data() + file.size() - 130);
  EXPECT_EQ(w.bytes.size(), 96U);
  KRAIT_ASSERT_VALUE(const TensorView b, source->view("b"));
  EXPECT_EQ(b.bytes.data(), w.bytes.data() + 96);
  EXPECT_EQ(b.bytes.size(), 5U);
  EXPECT_EQ(source->view("scalar")->shape, Shape{});
  expect_error(source->view("absent"), ErrorCode::kNotFound, {"\"absent\"", "m.gguf"});
}

TEST(Gguf, KnowsTheTypesThatKraitReads) {
  const std::tuple<std::uint32_t, DType, std::int64_t, std::size_t> types[] = {
      {0, DType::kF32, 1, 4},       {1, DType::kF16, 1, 2},       {2, DType::kQ4_0, 32, 18},
      {8, DType::kQ8_0, 32, 34},    {12, DType::kQ4_K, 256, 144}, {13, DType::kQ5_K, 256, 176},
      {14, DType::kQ6_K, 256, 210}, {24, DType::kI8, 1, 1},       {25, DType::kI16, 1, 2},
      {26, DType::kI32, 1, 4},      {27, DType::kI64, 1, 8},      {28, DType::kF64, 1, 8},
      {30, DType::kBF16, 1, 2}};
  for (const auto& [number, dtype, elements, bytes] : types) {
    const Bytes file = GgufWriter().tensor({"w", {elements, 2}, number, 0}).data(zeros(2 * bytes)).bytes();
    KRAIT_ASSERT_VALUE(const auto source, parse_gguf(file, "m.gguf"));
    EXPECT_EQ(source->tensors()[0].dtype, dtype) << number;
    EXPECT_EQ(source->tensors()[0].bytes, 2 * bytes) << number;
  }
}

TEST(Gguf, RefusesOtherTypesNamingTheTensor) {
  for (const std::uint32_t type : {3U, 4U, 10U, 15U, 31U, 39U, 4294967295U}) {
    expect_refused(GgufWriter().tensor({"blk.0.w", {256}, type, 0}).data(zeros(512)).bytes(), ErrorCode::kUnsupported,
                   {"\"blk.0.w\"", std::to_string(type), "m.gguf"});
  }
}

TEST(Gguf, FollowsTheAlignmentOfTheFile) {
  GgufWriter writer;
  writer.alignment = 4096;
  const Bytes file = writer.scalar<std::uint32_t>("general.alignment", 4, 4096)
                         .tensor({"a", {1}, kI8, 4096})
                         .data(zeros(4097))
                         .bytes();
  KRAIT_ASSERT_VALUE(const auto source, parse_gguf(file, "m.gguf"));
  EXPECT_EQ(source->view("a")->bytes.data(), file.data() + 8192);

  for (const std::uint32_t alignment : {0U, 3U, 48U}) {
    expect_refused(GgufWriter().scalar("general.alignment", 4, alignment).bytes(), ErrorCode::kCorrupt,
                   {"general.alignment is", "power of two", "m.gguf"});
  }
  expect_refused(GgufWriter().scalar<std::int64_t>("general.alignment", 11, -32).bytes(), ErrorCode::kCorrupt, {"-32"});
  expect_refused(GgufWriter().tensor({"a", {1}, kI8, 16}).data(zeros(64)).bytes(), ErrorCode::kCorrupt,
                 {"\"a\"", "offset 16", "multiple of 32"});
  // An alignment beyond the file leaves no data.
  expect_refused(GgufWriter()
                     .scalar<std::uint64_t>("general.alignment", 10, std::uint64_t{1} << 62)
                     .tensor({"a", {1}, kI8, 0})
                     .data(zeros(64))
                     .bytes(),
                 ErrorCode::kCorrupt, {"\"a\"", "ends past the data: 0 bytes"});
}

TEST(Gguf, RefusesTensorsPastTheEnd) {
  expect_refused(GgufWriter().tensor({"far", {9}, kF32, 32}).data(zeros(67)).bytes(), ErrorCode::kCorrupt,
                 {"\"far\"", "36 bytes", "offset 32", "67 bytes", "m.gguf"});
  expect_refused(GgufWriter().tensor({"far", {1}, kI8, std::uint64_t{0} - 32}).data(zeros(64)).bytes(),
                 ErrorCode::kCorrupt, {"\"far\"", "offset 18446744073709551584"});
}

TEST(Gguf, RefusesShapesThatOverflow) {
  const std::int64_t big = std::int64_t{1} << 32;
  expect_refused(GgufWriter().tensor({"huge", {big, big}, kF32, 0}).bytes(), ErrorCode::kCorrupt,
                 {"\"huge\"", "overflows", "m.gguf"});
  expect_refused(GgufWriter().tensor({"huge", {std::numeric_limits<std::int64_t>::max()}, kF32, 0}).bytes(),
                 ErrorCode::kCorrupt, {"\"huge\"", "overflows"});
  expect_refused(GgufWriter().tensor({"huge", {-1}, kI8, 0}).bytes(), ErrorCode::kCorrupt, {"\"huge\"", "overflows"});
}

TEST(Gguf, RefusesMoreThanFourDimensions) {
  expect_refused(GgufWriter().tensor({"five", {1, 1, 1, 1, 1}, kF32, 0}).data(zeros(4)).bytes(), ErrorCode::kCorrupt,
                 {"\"five\"", "5 dimensions", "m.gguf"});
}

TEST(Gguf, RefusesRowsThatAreNotWholeBlocks) {
  // 64 elements are two blocks, but each row is half of one.
  expect_refused(GgufWriter().tensor({"w", {16, 4}, kQ8_0, 0}).data(zeros(68)).bytes(), ErrorCode::kCorrupt,
                 {"\"w\"", "rows of 16", "blocks of 32", "m.gguf"});
}

TEST(Gguf, RefusesOverlappingTensors) {
  expect_refused(GgufWriter().tensor({"a", {10}, kF32, 0}).tensor({"b", {4}, kF32, 32}).data(zeros(64)).bytes(),
                 ErrorCode::kCorrupt, {"\"b\" overlaps tensor \"a\"", "m.gguf"});
}

TEST(Gguf, RefusesDoubledNames) {
  expect_refused(GgufWriter().tensor({"a", {1}, kI8, 0}).tensor({"a", {1}, kI8, 32}).data(zeros(64)).bytes(),
                 ErrorCode::kCorrupt, {"\"a\" is there twice", "m.gguf"});
}

TEST(Gguf, RefusesAPartOfASplitModel) {
  expect_refused(GgufWriter().scalar<std::uint16_t>("split.count", 2, 3).bytes(), ErrorCode::kUnsupported,
                 {"one of 3 parts", "m.gguf"});
}

TEST(Gguf, RefusesFilesCutShortAnywhere) {
  const Bytes file =
      GgufWriter().text("k", "v").tensor({"a", {2, 2}, kF32, 0}).tensor({"b", {3}, kI8, 32}).data(zeros(35)).bytes();
  ASSERT_TRUE(parse_gguf(file, "m.gguf").has_value());
  for (std::size_t length = 0; length < file.size(); ++length) {
    expect_refused(tests::first_bytes(file, length), ErrorCode::kCorrupt, {"[gguf]", "m.gguf"});
  }
}

TEST(Gguf, SurvivesEveryFlippedBit) {
  const Bytes file = GgufWriter().text("k", "v").tensor({"a", {2, 2}, kF32, 0}).data(zeros(16)).bytes();
  for (std::size_t i = 0; i < file.size() * 8; ++i) {
    Bytes flipped = file;
    flipped[i / 8] ^= std::byte{1} << (i % 8);
    const auto source = parse_gguf(flipped, "m.gguf");
    if (!source) {
      EXPECT_NE(source.error().message.find("m.gguf"), std::string::npos) << source.error().message;
      continue;
    }
    for (const TensorInfo& tensor : (*source)->tensors()) {
      const auto view = (*source)->view(tensor.name);
      ASSERT_TRUE(view.has_value());
      EXPECT_LE(view->bytes.data() + view->bytes.size(), flipped.data() + flipped.size());
    }
  }
}

TEST(Gguf, ReadsFilesOfLlamaCpp) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  for (const char* name :
       {"falcon-h1", "granitehybrid", "jamba", "lfm2", "mamba", "mamba2", "nemotron-h", "qwen3next"}) {
    KRAIT_ASSERT_VALUE(const auto source, open_gguf(path / "golden/gguf" / name / "model.gguf"));
    EXPECT_TRUE(source->config().has("general.architecture")) << name;
    KRAIT_ASSERT_VALUE(const TensorView embedding, source->view("token_embd.weight"));
    ASSERT_EQ(embedding.shape.size(), 2U) << name;
    const auto architecture = source->config().text("general.architecture").value();
    EXPECT_EQ(embedding.shape[1], source->config().integer(architecture + ".embedding_length").value()) << name;
  }
}

}  // namespace
}  // namespace krait::formats
