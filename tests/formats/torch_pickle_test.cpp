#include "krait/formats/torch_pickle.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/formats/error_expectation.h"
#include "tests/formats/torch_archive_writer.h"
#include "tests/support/shared_data.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::bytes_of;
using tests::expect_error;
using tests::PickleWriter;
using tests::torch_archive;

PickleWriter start() { return PickleWriter().op(tests::pickle_protocol2()).op("}("); }

Bytes floats(const std::vector<float>& values) {
  tests::ByteWriter writer;
  for (const float value : values) writer.put(value);
  return writer.bytes();
}

std::vector<float> read(const WeightSource& source, std::string_view name) {
  const auto view = source.view(name);
  if (!view) return {};
  std::vector<float> values(static_cast<std::size_t>(element_count(view->shape).value()));
  return read_as_f32(*view, values) ? values : std::vector<float>{};
}

auto parse(const Bytes& file) { return parse_torch_pickle(file, "m.bin"); }
// For files that are refused: nothing of the file outlives the call.
void expect_refused(const Bytes& file, ErrorCode code, std::initializer_list<std::string_view> parts) {
  expect_error(parse(file), code, parts);
}

TEST(TorchPickle, ContiguousTensorsAreViewsIntoTheFile) {
  const Bytes file = torch_archive(start()
                                       .text("w")
                                       .tensor("FloatStorage", "0", 8, 2, {2, 3}, {3, 1})
                                       .text("tied")
                                       .tensor("FloatStorage", "0", 8, 2, {6}, {1})
                                       .text("one")
                                       .tensor("FloatStorage", "0", 8, 7, {1, 1}, {5, 99})
                                       .op("u.")
                                       .bytes(),
                                   {{"0", floats({0, 1, 2, 3, 4, 5, 6, 7})}});
  KRAIT_ASSERT_VALUE(const auto source, parse(file));
  EXPECT_EQ(source->format(), "torch");
  EXPECT_EQ(read(*source, "w"), (std::vector<float>{2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(read(*source, "one"), (std::vector<float>{7}));
  EXPECT_EQ(source->view("w")->shape, (Shape{2, 3}));
  EXPECT_EQ(source->view("w")->bytes.data(), source->view("tied")->bytes.data());
  EXPECT_GE(source->view("one")->bytes.data(), file.data());
  EXPECT_LT(source->view("one")->bytes.data(), file.data() + file.size());
}

TEST(TorchPickle, TransposedAndStridedTensorsAreCopiedIntoOrder) {
  std::vector<float> values(24);
  std::iota(values.begin(), values.end(), 0.0F);
  const Bytes file = torch_archive(start()
                                       .text("transposed")
                                       .tensor("FloatStorage", "0", 24, 0, {3, 2}, {1, 3})
                                       .text("every_second")
                                       .tensor("FloatStorage", "0", 24, 1, {3}, {2})
                                       .text("permuted")  // of a [2, 3, 4] tensor: [4, 2, 3]
                                       .tensor("FloatStorage", "0", 24, 0, {4, 2, 3}, {1, 12, 4})
                                       .op("u.")
                                       .bytes(),
                                   {{"0", floats(values)}});
  KRAIT_ASSERT_VALUE(const auto source, parse(file));
  EXPECT_EQ(read(*source, "transposed"), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(read(*source, "every_second"), (std::vector<float>{1, 3, 5}));
  const std::vector<float> permuted = read(*source, "permuted");
  ASSERT_EQ(permuted.size(), 24U);
  for (std::size_t i = 0; i < 24; ++i) {
    const std::size_t c = i / 6, a = i / 3 % 2, b = i % 3;  // the index [c, a, b] of the permuted tensor
    EXPECT_EQ(permuted[i], static_cast<float>(a * 12 + b * 4 + c)) << i;
  }
}

TEST(TorchPickle, TensorsWithoutElementsNeedNoBytes) {
  const Bytes file = torch_archive(
      start().text("none").tensor("FloatStorage", "0", 0, 0, {0, 3}, {3, 1}).op("u.").bytes(), {{"0", {}}});
  KRAIT_ASSERT_VALUE(const auto source, parse(file));
  EXPECT_EQ(source->view("none")->shape, (Shape{0, 3}));
  EXPECT_TRUE(source->view("none")->bytes.empty());
}

TEST(TorchPickle, RefusesTensorsPastTheirStorage) {
  const auto archive = [](std::int64_t offset, std::vector<std::int64_t> size, std::vector<std::int64_t> stride) {
    return torch_archive(start().text("far").tensor("FloatStorage", "0", 6, offset, size, stride).op("u.").bytes(),
                         {{"0", floats({0, 1, 2, 3, 4, 5})}});
  };
  EXPECT_TRUE(parse_torch_pickle(archive(0, {2, 3}, {3, 1}), "m.bin").has_value());
  expect_refused(archive(1, {2, 3}, {3, 1}), ErrorCode::kCorrupt,
                 {"\"far\"", "[2, 3]", "offset 1", "\"0\" of 6 elements", "m.bin"});
  expect_refused(archive(0, {2, 3}, {4, 1}), ErrorCode::kCorrupt, {"\"far\"", "strides [4, 1]"});
  expect_refused(archive(INT64_MAX, {1}, {1}), ErrorCode::kCorrupt, {"\"far\"", "ends past"});
  expect_refused(archive(0, {3}, {INT64_MAX}), ErrorCode::kCorrupt, {"\"far\"", "ends past"});
  expect_refused(archive(0, {INT64_MAX, 2}, {0, 0}), ErrorCode::kCorrupt, {"\"far\"", "overflows"});
}

TEST(TorchPickle, RefusesExpandedTensorsThatOutgrowTheFile) {
  const Bytes pickle =
      start().text("huge").tensor("FloatStorage", "0", 1, 0, {1 << 20, 1 << 20}, {0, 0}).op("u.").bytes();
  expect_refused(torch_archive(pickle, {{"0", floats({1})}}), ErrorCode::kResourceExhausted,
                 {"\"huge\"", "[1048576, 1048576]", "m.bin"});
}

TEST(TorchPickle, RefusesStoragesOfAnotherSize) {
  const Bytes pickle = start().text("w").tensor("HalfStorage", "3", 4, 0, {4}, {1}).op("u.").bytes();
  expect_refused(torch_archive(pickle, {{"3", floats({1})}}), ErrorCode::kCorrupt,
                 {"\"w\"", "storage \"3\" of 4 f16 elements has 4 bytes", "m.bin"});
  expect_refused(torch_archive(pickle, {{"0", floats({1, 2})}}), ErrorCode::kCorrupt,
                 {"\"w\"", "storage \"3\"", "lacks", "m.bin"});
  expect_refused(torch_archive(start().text("w").tensor("DoubleStorage", "0", INT64_MAX, 0, {1}, {1}).op("u.").bytes(),
                               {{"0", floats({1})}}),
                 ErrorCode::kCorrupt, {"\"w\"", "has 4 bytes"});
}

TEST(TorchPickle, RefusesOtherArchives) {
  const Bytes empty = start().op("u.").bytes();
  const auto archive = [&](std::vector<tests::ZipMember> extra) {
    std::vector<tests::ZipMember> members = {{"m/data.pkl", empty}};
    members.insert(members.end(), extra.begin(), extra.end());
    return tests::zip_of(members);
  };
  EXPECT_TRUE(parse_torch_pickle(archive({{"m/version", bytes_of("3\n")}}), "m.bin").has_value());
  expect_refused(archive({}), ErrorCode::kCorrupt, {"no version", "m.bin"});
  expect_refused(archive({{"m/version", bytes_of("11\n")}}), ErrorCode::kUnsupported, {"version is \"11"});
  expect_refused(archive({{"m/version", bytes_of("x")}}), ErrorCode::kUnsupported, {"version is \"x\""});
  expect_refused(archive({{"m/version", bytes_of("3")}, {"m/byteorder", bytes_of("big")}}), ErrorCode::kUnsupported,
                 {"byteorder is \"big\""});
  expect_refused(archive({{"n/data.pkl", empty}}), ErrorCode::kCorrupt, {"two pickles", "m/data.pkl", "n/data.pkl"});
  expect_refused(tests::zip_of({{"m/version", bytes_of("3")}}), ErrorCode::kCorrupt, {"no data.pkl", "m.bin"});
  expect_refused(bytes_of("\x80\x02\x8a\nl\xfc\x9c"), ErrorCode::kUnsupported, {"not a ZIP", "1.6", "m.bin"});
}

TEST(TorchPickle, RefusesFilesCutShortAnywhere) {
  const Bytes file = torch_archive(start().text("w").tensor("FloatStorage", "0", 2, 0, {2}, {1}).op("u.").bytes(),
                                   {{"0", floats({1, 2})}});
  ASSERT_TRUE(parse(file).has_value());
  for (std::size_t length = 0; length < file.size(); ++length) {
    const auto source = parse_torch_pickle(tests::first_bytes(file, length), "m.bin");
    ASSERT_FALSE(source.has_value()) << length;
    EXPECT_NE(source.error().message.find("m.bin"), std::string::npos) << source.error().message;
  }
}

// First and last value of tensors, taken from the files with Python's struct module.
TEST(TorchPickle, ReadsFilesOfPyTorch) {
  KRAIT_REQUIRE_SHARED_DATA(path);
  struct Case {
    const char* folder;
    const char* tensor;
    Shape shape;
    float first;
    float last;
    std::size_t tensors;
  };
  const Case cases[] = {
      {"mamba1_original", "lm_head.weight", {120, 32}, -0.20231425762176514F, 0.11375607550144196F, 33},
      {"mamba1_original",
       "backbone.layers.1.mixer.conv1d.weight",
       {64, 1, 4},
       0.12166917324066162F,
       0.09458941221237183F,
       33},
      {"mamba1_original", "backbone.layers.2.mixer.A_log", {64, 16}, 0.0F, 2.7725887298583984F, 33},
      {"mamba2_original",
       "backbone.layers.0.mixer.in_proj.weight",
       {196, 32},
       0.2405601441860199F,
       0.19557830691337585F,
       30},
      {"mamba2_original", "backbone.layers.2.mixer.dt_bias", {4}, -4.385019779205322F, -5.057112693786621F, 30},
      {"mamba3_siso",
       "backbone.layers.0.mixer.in_proj.weight",
       {212, 32},
       0.47561904788017273F,
       0.15442335605621338F,
       39},
  };
  for (const Case& expected : cases) {
    SCOPED_TRACE(expected.tensor);
    KRAIT_ASSERT_VALUE(const auto source, open_weights(path / "golden/lm/outside" / expected.folder));
    EXPECT_EQ(source->format(), "torch");
    EXPECT_EQ(source->tensors().size(), expected.tensors);
    EXPECT_EQ(source->config().integer("d_model").value(), 32);
    KRAIT_ASSERT_VALUE(const TensorView view, source->view(expected.tensor));
    EXPECT_EQ(view.shape, expected.shape);
    const std::vector<float> values = read(*source, expected.tensor);
    ASSERT_FALSE(values.empty());
    EXPECT_EQ(values.front(), expected.first);
    EXPECT_EQ(values.back(), expected.last);
  }
}

TEST(TorchPickle, ReadsTheArchiveOfARecentPyTorch) {
  KRAIT_REQUIRE_SHARED_DATA(path);  // with .format_version, .storage_alignment and byteorder
  KRAIT_ASSERT_VALUE(const auto source, open_torch_pickle(path / "golden/rwkv7/reverse_L2.pth", Config()));
  EXPECT_EQ(source->tensors().size(), 99U);
}

}  // namespace
}  // namespace krait::formats
