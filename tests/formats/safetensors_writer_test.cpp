#include "krait/formats/safetensors_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "krait/formats/mapped_file.h"
#include "krait/formats/safetensors.h"
#include "tests/formats/byte_writer.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::expect_error;

Bytes numbered(std::size_t count) {
  Bytes bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + count);
  return bytes;
}

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(WriteSafetensors, WhatIsWrittenIsReadBack) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.safetensors";
  const Bytes a = numbered(24), b = numbered(3), c = numbered(8), none;
  const NamedTensor tensors[] = {{"layer.\"odd\" ü\n", {DType::kF32, {2, 3}, a}},
                                 {"b", {DType::kI8, {3}, b}},
                                 {"c", {DType::kF64, {}, c}},
                                 {"none", {DType::kBF16, {0, 4}, none}}};
  const auto written = write_safetensors(path, tensors, {{"format", "pt"}, {"a\tb", "c"}});
  ASSERT_TRUE(written.has_value()) << written.error().message;
  EXPECT_EQ(files_in(folder.path()), 1U) << "the temporary file is gone";

  KRAIT_ASSERT_VALUE(const auto source, open_safetensors(path, Config("given")));
  EXPECT_EQ(source->config().origin(), "given");
  ASSERT_EQ(source->tensors().size(), 4U);
  for (const NamedTensor& tensor : tensors) {
    KRAIT_ASSERT_VALUE(const TensorView view, source->view(tensor.name));
    EXPECT_EQ(view.dtype, tensor.view.dtype);
    EXPECT_EQ(view.shape, tensor.view.shape);
    EXPECT_EQ(Bytes(view.bytes.begin(), view.bytes.end()), Bytes(tensor.view.bytes.begin(), tensor.view.bytes.end()));
    const auto alignment = static_cast<std::uintptr_t>(info(view.dtype).bytes_per_block);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) % alignment, 0U) << tensor.name;
  }
}

TEST(WriteSafetensors, TheLayoutSaysWhereEverythingStands) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.safetensors";
  const Bytes a = numbered(24), b = numbered(3), c = numbered(8);
  const NamedTensor tensors[] = {
      {"a", {DType::kF32, {2, 3}, a}}, {"b", {DType::kI8, {3}, b}}, {"c", {DType::kF64, {}, c}}};
  const std::map<std::string, std::string> metadata = {{"k", "v \""}, {"dtype", "F32"}};
  ASSERT_TRUE(write_safetensors(path, tensors, metadata).has_value());
  KRAIT_ASSERT_VALUE(const auto file, MappedFile::open(path));

  std::vector<TensorInfo> infos;
  for (const auto& [name, view] : tensors) infos.push_back({name, view.dtype, view.shape, view.bytes.size()});
  KRAIT_ASSERT_VALUE(const auto layout, lay_out_safetensors(infos, metadata, "w"));
  EXPECT_EQ(layout.bytes, file.bytes().size());
  Bytes whole(layout.bytes);
  std::memcpy(whole.data(), layout.header.data(), layout.header.size());
  for (std::size_t i = 0; i < infos.size(); ++i) {
    std::ranges::copy(tensors[i].view.bytes, whole.begin() + static_cast<std::ptrdiff_t>(layout.offsets[i]));
  }
  EXPECT_TRUE(std::ranges::equal(whole, file.bytes()));
  KRAIT_ASSERT_VALUE(const auto read, parse_safetensors_metadata(file.bytes(), "w"));
  EXPECT_EQ(read, metadata);
}

TEST(WriteSafetensors, NoTensorsAtAllIsAFile) {
  const tests::TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder.path() / "w.safetensors", {}).has_value());
  KRAIT_ASSERT_VALUE(const auto source, open_safetensors(folder.path() / "w.safetensors", Config()));
  EXPECT_TRUE(source->tensors().empty());
}

TEST(WriteSafetensors, ReplacesAFileOnlyWhenComplete) {
  const tests::TemporaryFolder folder;
  const auto path = folder.write("w.safetensors", "old");
  const Bytes a = numbered(4);
  const NamedTensor wrong[] = {{"a", {DType::kF32, {2}, a}}};
  ASSERT_FALSE(write_safetensors(path, wrong).has_value());
  EXPECT_EQ(std::filesystem::file_size(path), 3U);
  const NamedTensor right[] = {{"a", {DType::kF32, {1}, a}}};
  ASSERT_TRUE(write_safetensors(path, right).has_value());
  EXPECT_TRUE(open_safetensors(path, Config()).has_value());
}

TEST(WriteSafetensors, RefusesWhatItsReaderWould) {
  const tests::TemporaryFolder folder;
  const auto path = folder.path() / "w.safetensors";
  const Bytes bytes = numbered(34);
  const auto write = [&](std::vector<NamedTensor> tensors) { return write_safetensors(path, tensors); };
  expect_error(write({{"q", {DType::kQ8_0, {32}, bytes}}}), ErrorCode::kInvalidArgument, {"\"q\"", "q8_0"});
  expect_error(write({{"w", {DType::kU8, {33}, bytes}}}), ErrorCode::kInvalidArgument, {"\"w\"", "[33]", "34 bytes"});
  expect_error(write({{"w", {DType::kU8, {-34}, bytes}}}), ErrorCode::kInvalidArgument, {"\"w\"", "[-34]"});
  expect_error(write({{"w", {DType::kU8, {34}, bytes}}, {"w", {DType::kU8, {34}, bytes}}}), ErrorCode::kInvalidArgument,
               {"\"w\" is given twice"});
  expect_error(write({{"\xff", {DType::kU8, {34}, bytes}}}), ErrorCode::kInvalidArgument, {"UTF-8", "w.safetensors"});
  expect_error(write({{"__metadata__", {DType::kU8, {34}, bytes}}}), ErrorCode::kInvalidArgument, {"__metadata__"});
  EXPECT_EQ(files_in(folder.path()), 0U);
}

TEST(WriteSafetensors, SaysWhereItCannotWrite) {
  const tests::TemporaryFolder folder;
  expect_error(write_safetensors(folder.path() / "absent" / "w.safetensors", {}), ErrorCode::kInputOutput,
               {"absent/w.safetensors", "No such file"});
}

}  // namespace
}  // namespace krait::formats
