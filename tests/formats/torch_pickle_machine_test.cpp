#include "krait/formats/torch_pickle_machine.h"

#include <gtest/gtest.h>

#include "tests/formats/error_expectation.h"
#include "tests/formats/torch_archive_writer.h"

namespace krait::formats {
namespace {

using tests::Bytes;
using tests::bytes_of;
using tests::expect_error;
using tests::pickle_protocol2;
using tests::PickleWriter;

using namespace std::string_literals;

PickleWriter start() { return PickleWriter().op(pickle_protocol2()); }

// The texts of the result lie within `pickle`.
auto read(const Bytes& pickle) { return read_state_dict_pickle(pickle, "m.bin"); }

void expect_refused(const PickleWriter& pickle, ErrorCode code, std::initializer_list<std::string_view> parts) {
  const Bytes bytes = pickle.bytes();
  expect_error(read(bytes), code, parts);
}

TEST(TorchPickleMachine, ReadsAnOrderedStateDict) {
  const Bytes pickle = start()
                           .global("collections", "OrderedDict")
                           .op(")R(")
                           .text("w")
                           .tensor("FloatStorage", "0", 12, 3, {2, 3}, {3, 1})
                           .text("b")
                           .tensor("BFloat16Storage", "7", 4, 0, {}, {})
                           .op("u")
                           .op("}")  // the attributes of the state dict: {"_metadata": …}
                           .text("_metadata")
                           .op("}sb.")
                           .bytes();
  KRAIT_ASSERT_VALUE(const auto tensors, read(pickle));
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].dtype, DType::kF32);
  EXPECT_EQ(tensors[0].storage_key, "0");
  EXPECT_EQ(tensors[0].storage_elements, 12);
  EXPECT_EQ(tensors[0].offset, 3);
  EXPECT_EQ(tensors[0].shape, (Shape{2, 3}));
  EXPECT_EQ(tensors[0].strides, (Shape{3, 1}));
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].dtype, DType::kBF16);
  EXPECT_TRUE(tensors[1].shape.empty());
}

TEST(TorchPickleMachine, ReadsThePlainDictOfNewerProtocols) {
  // Protocol 4: frame, memoised short texts, STACK_GLOBAL; numbers in all widths; a parameter round the tensor.
  const Bytes pickle = bytes_of(
      "\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01w\x94"
      "\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_parameter\x94\x93\x94("
      "h\x02\x8c\x12_rebuild_tensor_v2\x93("
      "(\x8c\x07storage\x8c\x05torch\x8c\x0bHalfStorage\x93\x8c\x01"
      "5\x8c\x03"
      "cpuJ\x06\x00\x00\x00tQ"
      "K\x00M\x02\x00K\x03\x86K\x03K\x01\x86\x89Nt"
      "R\x88}t"
      "Rs."s);
  KRAIT_ASSERT_VALUE(const auto tensors, read(pickle));
  ASSERT_EQ(tensors.size(), 1U);
  EXPECT_EQ(tensors[0].name, "w");
  EXPECT_EQ(tensors[0].dtype, DType::kF16);
  EXPECT_EQ(tensors[0].storage_key, "5");
  EXPECT_EQ(tensors[0].storage_elements, 6);
  EXPECT_EQ(tensors[0].shape, (Shape{2, 3}));
}

TEST(TorchPickleMachine, KnowsTheStorageClassOfEveryDtype) {
  const std::pair<const char*, DType> classes[] = {{"DoubleStorage", DType::kF64}, {"FloatStorage", DType::kF32},
                                                   {"HalfStorage", DType::kF16},   {"BFloat16Storage", DType::kBF16},
                                                   {"LongStorage", DType::kI64},   {"IntStorage", DType::kI32},
                                                   {"ShortStorage", DType::kI16},  {"CharStorage", DType::kI8},
                                                   {"ByteStorage", DType::kU8},    {"BoolStorage", DType::kBool}};
  for (const auto& [name, dtype] : classes) {
    const Bytes pickle = start().op("}").text("x").tensor(name, "0", 1, 0, {1}, {1}).op("s.").bytes();
    KRAIT_ASSERT_VALUE(const auto tensors, read(pickle));
    EXPECT_EQ(tensors.at(0).dtype, dtype);
  }
}

TEST(TorchPickleMachine, RefusesEveryOtherGlobalByName) {
  expect_refused(start().global("os", "system").op("(").text("rm -rf /").op("tR."), ErrorCode::kUnsupported,
                 {"pickle asks for os.system: refused", "m.bin"});
  expect_refused(start().text("builtins").text("eval").op("\x93."), ErrorCode::kUnsupported, {"builtins.eval"});
  expect_refused(start().global("torch", "load").op("."), ErrorCode::kUnsupported, {"torch.load"});
  expect_refused(start().global("torch", "FloatStorage2").op("."), ErrorCode::kUnsupported, {"torch.FloatStorage2"});
  expect_refused(start().global("collections", "defaultdict").op("."), ErrorCode::kUnsupported, {"defaultdict"});
  expect_refused(start().global("torch._utils", "_rebuild_qtensor").op("."), ErrorCode::kUnsupported,
                 {"_rebuild_qtensor"});
}

TEST(TorchPickleMachine, RefusesOpcodesThatAStateDictDoesNotNeed) {
  // INST and OBJ make objects, NEWOBJ too; EXT1 looks names up in a registry; PERSID reads its key as a line.
  for (const char opcode : {'i', 'o', '\x81', '\x82', 'P', 'I', 'S', 'p', 'd', 'l', '\x8f', '\x98'}) {
    expect_refused(start().op(std::string(1, opcode)), ErrorCode::kUnsupported, {"byte 2", "opcode 0x", "m.bin"});
  }
}

TEST(TorchPickleMachine, RefusesPicklesCutShortAnywhere) {
  const Bytes pickle = start()
                           .op("}(")
                           .text("w")
                           .tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1})
                           .op("uG12345678q\x01h\x01")
                           .op("0")
                           .bytes();
  for (std::size_t length = 0; length < pickle.size(); ++length) {
    const Bytes part = tests::first_bytes(pickle, length);
    const auto tensors = read(part);
    ASSERT_FALSE(tensors.has_value()) << length;
    EXPECT_NE(tensors.error().message.find("m.bin"), std::string::npos) << tensors.error().message;
  }
}

TEST(TorchPickleMachine, SurvivesEveryFlippedBit) {
  const Bytes pickle =
      start().op("}q\x01(").text("w").tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1}).op("u.").bytes();
  ASSERT_TRUE(read(pickle).has_value());
  for (std::size_t i = 0; i < pickle.size() * 8; ++i) {
    Bytes flipped = pickle;
    flipped[i / 8] ^= std::byte{1} << (i % 8);
    const auto tensors = read(flipped);
    if (tensors) continue;
    EXPECT_NE(tensors.error().message.find("m.bin"), std::string::npos) << tensors.error().message;
  }
}

TEST(TorchPickleMachine, RefusesBrokenStacks) {
  const std::pair<PickleWriter, const char*> cases[] = {
      {start().op("."), "empty stack"},
      {start().op("(."), "empty stack"},
      {start().op("t"), "no mark"},
      {start().op("N\x86"), "empty stack"},
      {start().op("h\x05"), "value 5"},
      {start().op("q\x01"), "nothing there"},
      {start().op("NNs"), "not a dict"},
      {start().op("NNNs"), "not a dict"},
      {start().op("}(Nu"), "key without a value"},
      {start().op("}Na"), "not a list"},
      {start().op("NR"), "empty stack"},
      {start().op("N)R"), "None is called"},
      {start().global("torch", "FloatStorage").op(")R"), "class or function is called"},
      {start().op("NNR"), "None in place of arguments"},
      {start().op("N}b"), "attributes"},
      {start().op("NQ"), "five values"},
      {start().op("(NNNNNtQ"), "storage described by None"},
      {start().op("\x8a\x09"
                  "123456789"),
       "9 bytes"},
      {start().op("NN\x93"), "not named by text"},
      {start().global("collections", "OrderedDict").op("N\x85R"), "OrderedDict made with arguments"},
      {start().global("torch._utils", "_rebuild_parameter").op("N\x85R"), "without a tensor"},
      {PickleWriter().op("\x80\x01"), "protocol 1"},
      {PickleWriter().op("\x80\x06"), "protocol 6"},
  };
  for (const auto& [pickle, part] : cases) {
    SCOPED_TRACE(part);
    expect_refused(pickle, ErrorCode::kCorrupt, {part, "m.bin"});
  }
}

TEST(TorchPickleMachine, RefusesImpossibleTensors) {
  const auto with = [](std::int64_t elements, std::int64_t offset, std::vector<std::int64_t> size,
                       std::vector<std::int64_t> stride) {
    return start().op("}").text("w").tensor("FloatStorage", "0", elements, offset, size, stride).op("s.");
  };
  expect_refused(with(-1, 0, {1}, {1}), ErrorCode::kCorrupt, {"a storage described"});
  expect_refused(with(1, -1, {1}, {1}), ErrorCode::kCorrupt, {"negative offset -1"});
  expect_refused(with(1, 0, {-2}, {1}), ErrorCode::kCorrupt, {"-2 among its dimensions"});
  expect_refused(with(1, 0, {2}, {-1}), ErrorCode::kCorrupt, {"-1 among its dimensions"});
  expect_refused(with(1, 0, {2, 1}, {1}), ErrorCode::kCorrupt, {"2 dimensions and 1 strides"});
  const std::vector<std::int64_t> many(65, 1);
  expect_refused(with(1, 0, many, many), ErrorCode::kCorrupt, {"65 dimensions"});
  expect_refused(start().global("torch._utils", "_rebuild_tensor_v2").op("N\x85R"), ErrorCode::kCorrupt,
                 {"a tensor made of 1 arguments"});
  expect_refused(start().global("torch._utils", "_rebuild_tensor_v2").op("(NNNNtR"), ErrorCode::kCorrupt,
                 {"a tensor made of None"});
}

TEST(TorchPickleMachine, RefusesWhatIsNoFlatStateDict) {
  expect_refused(start().op("]."), ErrorCode::kUnsupported, {"holds a list", "m.bin"});
  expect_refused(start().tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("."), ErrorCode::kUnsupported,
                 {"holds a tensor"});
  expect_refused(start().op("}").text("state_dict").op("}s."), ErrorCode::kUnsupported,
                 {"\"state_dict\" is a dict", "flat"});
  expect_refused(start().op("}NNs."), ErrorCode::kUnsupported, {"a key of the state dict is None"});
  expect_refused(start()
                     .op("}(")
                     .text("w")
                     .tensor("FloatStorage", "0", 1, 0, {1}, {1})
                     .text("w")
                     .tensor("FloatStorage", "0", 1, 0, {1}, {1})
                     .op("u."),
                 ErrorCode::kCorrupt, {"\"w\" is there twice"});
}

TEST(TorchPickleMachine, AListThatHoldsItselfIsHarmless) {
  expect_refused(start().op("]q\x01h\x01").op("a."), ErrorCode::kUnsupported, {"holds a list"});
  expect_refused(start().op("}q\x01").text("me").op("h\x01s."), ErrorCode::kUnsupported, {"\"me\" is a dict"});
}

TEST(TorchPickleMachine, RefusesMoreObjectsThanAnyStateDictHas) {
  PickleWriter pickle = start();
  pickle.op(std::string((std::size_t{1} << 20) + 1, '}'));
  expect_refused(pickle, ErrorCode::kCorrupt, {"more than 1048576"});
}

}  // namespace
}  // namespace krait::formats
