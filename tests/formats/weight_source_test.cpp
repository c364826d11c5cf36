#include "krait/formats/weight_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "krait/formats/safetensors_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/gguf_writer.h"
#include "tests/formats/temporary_folder.h"
#include "tests/formats/torch_archive_writer.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::ByteWriter;
using tests::expect_error;
using tests::TemporaryFolder;

void write_safetensors_file(const std::filesystem::path& path, const std::string& tensor) {
  const Bytes data = ByteWriter().put(1.0F).bytes();
  const NamedTensor tensors[] = {{tensor, {DType::kF32, {1}, data}}};
  ASSERT_TRUE(write_safetensors(path, tensors).has_value());
}

Bytes torch_file(const std::string& tensor) {
  return tests::torch_archive(tests::PickleWriter()
                                  .op(tests::pickle_protocol2())
                                  .op("}")
                                  .text(tensor)
                                  .tensor("FloatStorage", "0", 1, 0, {1}, {1})
                                  .op("s.")
                                  .bytes(),
                              {{"0", ByteWriter().put(1.0F).bytes()}});
}

Bytes gguf_file(const std::string& tensor) {
  return tests::GgufWriter().text("k", "v").tensor({tensor, {1}, 0, 0}).data(ByteWriter().put(1.0F).bytes()).bytes();
}

std::string index_of(const std::string& tensor, const std::string& file) {
  return R"({"metadata": {"total_size": 4}, "weight_map": {")" + tensor + R"(": ")" + file + R"("}})";
}

// What open_weights finds, as "format: first tensor", or the error.
std::string found(const std::filesystem::path& path) {
  const auto source = open_weights(path);
  if (!source) return source.error().message;
  return std::string((*source)->format()) + ": " + (*source)->tensors()[0].name;
}

TEST(OpenWeights, TriesTheFormatsOfADirectoryInOrder) {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"d_model": 8})");
  // From the last choice to the first: each file that is added wins over those before it.
  folder.write("model.gguf", gguf_file("from_gguf"));
  EXPECT_EQ(found(folder.path()), "gguf: from_gguf");
  folder.write("pytorch_model.bin", torch_file("from_bin"));
  EXPECT_EQ(found(folder.path()), "torch: from_bin");
  folder.write("shard.bin", torch_file("from_bin_index"));
  folder.write("pytorch_model.bin.index.json", index_of("from_bin_index", "shard.bin"));
  EXPECT_EQ(found(folder.path()), "torch: from_bin_index");
  write_safetensors_file(folder.path() / "other.safetensors", "from_other");
  EXPECT_EQ(found(folder.path()), "safetensors: from_other");
  write_safetensors_file(folder.path() / "model.safetensors", "from_model");
  EXPECT_EQ(found(folder.path()), "safetensors: from_model");
  folder.write("model.safetensors.index.json", index_of("from_other", "other.safetensors"));
  EXPECT_EQ(found(folder.path()), "safetensors: from_other");
}

TEST(OpenWeights, OpensFilesByName) {
  const TemporaryFolder folder;
  folder.write("config.json", R"({"d_model": 8})");
  write_safetensors_file(folder.path() / "a.safetensors", "s");
  EXPECT_EQ(found(folder.path() / "a.safetensors"), "safetensors: s");
  EXPECT_EQ(found(folder.write("a.gguf", gguf_file("g"))), "gguf: g");
  for (const char* name : {"a.bin", "a.pt", "a.pth"}) EXPECT_EQ(found(folder.write(name, torch_file("t"))), "torch: t");
  expect_error(open_weights(folder.write("a.onnx", "x")), ErrorCode::kUnsupported,
               {"a.onnx", "*.safetensors", "*.gguf"});
  expect_error(open_weights(folder.path() / "absent"), ErrorCode::kNotFound, {"absent"});
}

TEST(OpenWeights, ReadsTheConfigurationBesideTheWeights) {
  const TemporaryFolder folder;
  write_safetensors_file(folder.path() / "model.safetensors", "s");
  expect_error(open_weights(folder.path()), ErrorCode::kNotFound,
               {"config.json", "params.json", folder.path().string()});
  expect_error(open_weights(folder.path() / "model.safetensors"), ErrorCode::kNotFound,
               {"config.json", "params.json", folder.path().string()});
  folder.write("params.json", R"({"dim": 1})");
  EXPECT_EQ(open_weights(folder.path()).value()->config().integer("dim").value(), 1);
  folder.write("config.json", R"({"d_model": 8})");
  EXPECT_EQ(open_weights(folder.path() / "model.safetensors").value()->config().integer("d_model").value(), 8);
  folder.write("config.json", "{");
  expect_error(open_weights(folder.path()), ErrorCode::kCorrupt, {"not JSON", "config.json"});
}

TEST(OpenWeights, ABareTorchFileHasAnEmptyConfiguration) {
  const TemporaryFolder folder;
  const auto file = folder.write("a.pth", torch_file("t"));
  EXPECT_TRUE(open_weights(file).value()->config().values().empty());
  EXPECT_NE(open_weights(file).value()->config().origin().find("a.pth"), std::string::npos);
  folder.write("config.json", "{");
  expect_error(open_weights(file), ErrorCode::kCorrupt, {"not JSON", "config.json"});
}

TEST(OpenWeights, SaysWhatItLookedForInADirectory) {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  expect_error(open_weights(folder.path()), ErrorCode::kNotFound,
               {"*.safetensors", "pytorch_model.bin", "*.gguf", folder.path().string()});
  write_safetensors_file(folder.path() / "a.safetensors", "s");
  write_safetensors_file(folder.path() / "b.safetensors", "s");
  expect_error(open_weights(folder.path()), ErrorCode::kNotFound, {"2 safetensors files", "index.json"});
  const TemporaryFolder ggufs;
  ggufs.write("a.gguf", gguf_file("g"));
  ggufs.write("b.gguf", gguf_file("g"));
  expect_error(open_weights(ggufs.path()), ErrorCode::kInvalidArgument, {"2 gguf files", ggufs.path().string()});
}

TEST(WeightSource, FindsTensorsByName) {
  const TemporaryFolder folder;
  KRAIT_ASSERT_VALUE(const auto source, open_weights(folder.write("a.gguf", gguf_file("g"))));
  ASSERT_NE(source->find("g"), nullptr);
  EXPECT_EQ(source->find("g")->bytes, 4U);
  EXPECT_EQ(source->find("f"), nullptr);
  EXPECT_EQ(source->find("h"), nullptr);
  EXPECT_EQ(source->find(""), nullptr);
}

std::vector<float> read(DType dtype, const Bytes& bytes) {
  const std::int64_t elements = static_cast<std::int64_t>(bytes.size()) / info(dtype).bytes_per_block;
  std::vector<float> out(static_cast<std::size_t>(elements));
  // One byte further than the allocation: a tensor in a mapped file need not be aligned.
  Bytes shifted(1);
  shifted.insert(shifted.end(), bytes.begin(), bytes.end());
  const auto result = read_as_f32({dtype, {elements}, std::span(shifted).subspan(1)}, out);
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return out;
}

TEST(ReadAsF32, ConvertsEveryPlainType) {
  EXPECT_EQ(read(DType::kF64, ByteWriter().put(1e300).put(-0.1).bytes()),
            (std::vector<float>{std::numeric_limits<float>::infinity(), -0.1F}));
  EXPECT_EQ(read(DType::kF32, ByteWriter().put(-0.1F).put(1e-40F).bytes()), (std::vector<float>{-0.1F, 1e-40F}));
  EXPECT_EQ(read(DType::kF16, ByteWriter().put<std::uint16_t>(0x3c00).put<std::uint16_t>(0xfbff).bytes()),
            (std::vector<float>{1.0F, -65504.0F}));
  EXPECT_EQ(read(DType::kBF16, ByteWriter().put<std::uint16_t>(0x3f80).put<std::uint16_t>(0xc049).bytes()),
            (std::vector<float>{1.0F, -3.140625F}));
  EXPECT_EQ(read(DType::kF8E4M3, ByteWriter().put<std::uint16_t>(0xfe38).bytes()), (std::vector<float>{1.0F, -448.0F}));
  EXPECT_EQ(read(DType::kF8E5M2, ByteWriter().put<std::uint16_t>(0xfb3c).bytes()),
            (std::vector<float>{1.0F, -57344.0F}));
  EXPECT_EQ(read(DType::kI64, ByteWriter().put(std::int64_t{-1} << 40).bytes()), (std::vector<float>{-0x1p40F}));
  EXPECT_EQ(read(DType::kI32, ByteWriter().put(-123456).bytes()), (std::vector<float>{-123456.0F}));
  EXPECT_EQ(read(DType::kI16, ByteWriter().put<std::int16_t>(-32768).bytes()), (std::vector<float>{-32768.0F}));
  EXPECT_EQ(read(DType::kI8, ByteWriter().put<std::int8_t>(-128).bytes()), (std::vector<float>{-128.0F}));
  EXPECT_EQ(read(DType::kU64, ByteWriter().put(std::uint64_t{1} << 63).bytes()), (std::vector<float>{0x1p63F}));
  EXPECT_EQ(read(DType::kU32, ByteWriter().put(0x80000000U).bytes()), (std::vector<float>{0x1p31F}));
  EXPECT_EQ(read(DType::kU16, ByteWriter().put<std::uint16_t>(65535).bytes()), (std::vector<float>{65535.0F}));
  EXPECT_EQ(read(DType::kU8, ByteWriter().put<std::uint8_t>(255).bytes()), (std::vector<float>{255.0F}));
  EXPECT_EQ(read(DType::kBool, ByteWriter().put<std::uint16_t>(0x0200).bytes()), (std::vector<float>{0.0F, 1.0F}));
}

TEST(ReadAsF32, DequantisesBlocks) {
  std::vector<float> out(32);
  ByteWriter block;
  block.put<std::uint16_t>(0x3c00);
  for (int i = 0; i < 32; ++i) block.put(static_cast<std::int8_t>(i - 16));
  ASSERT_TRUE(read_as_f32({DType::kQ8_0, {1, 32}, block.bytes()}, out).has_value());
  EXPECT_EQ(out[0], -16.0F);
  EXPECT_EQ(out[31], 15.0F);
}

TEST(ReadAsF32, RefusesAnotherNumberOfElements) {
  std::vector<float> out(3);
  const Bytes bytes(8);
  expect_error(read_as_f32({DType::kF32, {2}, bytes}, out), ErrorCode::kInvalidArgument, {"[2]", "3 floats"});
  expect_error(read_as_f32({DType::kF32, {3}, bytes}, out), ErrorCode::kInvalidArgument, {"[3]", "8 bytes"});
  expect_error(read_as_f32({DType::kF32, {-3}, bytes}, out), ErrorCode::kInvalidArgument, {"[-3]"});
  EXPECT_TRUE(read_as_f32({DType::kF32, {0}, {}}, {}).has_value());
}

}  // namespace
}  // namespace krait::formats
