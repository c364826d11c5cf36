// Saved states, for every architecture: what goes on from one in a new process is what would have come without saving,
// to the bit; what belongs to something else is refused; other dtypes are conversions of the same state.
#include "krait/runtime/state_saving.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "krait/runtime/state_conversion.h"
#include "tests/formats/error_expectation.h"
#include "tests/formats/temporary_folder.h"
#include "tests/runtime/stored_states.h"
#include "tests/runtime/tiny_model_states.h"

namespace krait::tests {
namespace {

using formats::StateObject;
using runtime::restore_state;
using runtime::save_state;

std::vector<std::byte> output_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run " + command);
  std::vector<std::byte> out;
  std::byte buffer[1 << 14];
  for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    out.insert(out.end(), buffer, buffer + got);
  }
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return out;
}

// A model with a session behind 70 tokens: more than a page, and no whole chunk.
struct Fixture {
  runtime::OpenedModel model;
  formats::StateIdentity identity;
  std::vector<std::int32_t> ids;
  runtime::Session session;

  Fixture(const models::SyntheticShape& shape, DType dtype)
      : model(value(open_tiny_model(shape, dtype))),
        identity(value(model.identity())),
        ids(random_tokens(70, shape.vocabulary, 3)),
        session(model.engine()) {
    session.feed(ids);
  }
  template <class T>
  static T value(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return *std::move(result);
  }
};

class StateSaving : public testing::TestWithParam<models::SyntheticShape> {};

TEST_P(StateSaving, ANewProcessGoesOnToTheBit) {
  const models::SyntheticShape& shape = GetParam();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    if (dtype != DType::kF32 && !open_tiny_model(shape, dtype)) continue;  // states of f32 alone: docs/models.md
    Fixture f(shape, dtype);
    for (const int zstd_level : {0, 1}) {
      const TemporaryFolder folder;
      const std::filesystem::path path = folder.path() / "a.state";
      const auto saved = save_state(path, f.model.engine(), f.identity, f.session.snapshot(),
                                    {.tokens = f.ids, .zstd_level = zstd_level});
      ASSERT_TRUE(saved) << saved.error().message;
      const auto more = random_tokens(45, shape.vocabulary, 4);
      std::string command =
          fmt::format("{} {} {} '{}'", KRAIT_STATE_CONTINUER, shape.name, to_string(dtype), path.string());
      for (const std::int32_t id : more) command += fmt::format(" {}", id);
      runtime::Session uninterrupted = f.session.fork();
      const std::vector<std::byte> expected = logits_and_state(uninterrupted, more);
      EXPECT_EQ(output_of(command), expected) << to_string(dtype) << ", zstd " << zstd_level;
    }
  }
}

TEST_P(StateSaving, WhatBelongsToSomethingElseIsRefused) {
  Fixture f(GetParam(), DType::kF32);
  const runtime::StateSections sections(f.model.engine(), f.identity, f.session.snapshot(), {});
  const auto bytes = Fixture::value(formats::encode_state(sections.description(), sections.sources()));
  const auto object = Fixture::value(StateObject::parse(bytes, "a.state"));
  const auto refuses = [&](const formats::StateIdentity& identity, std::initializer_list<std::string_view> parts) {
    expect_error(restore_state(object, f.model.engine(), identity), ErrorCode::kInvalidArgument, parts);
  };
  formats::StateIdentity other = f.identity;
  other.architecture = "s4";
  refuses(other, {"another architecture", "s4", f.identity.architecture, "a.state"});
  other = f.identity;
  other.model.low ^= 1;
  refuses(other, {"another model", f.identity.model.hex(), other.model.hex()});
  other = f.identity;
  other.tokenizer.high ^= 1;
  refuses(other, {"another tokenizer", other.tokenizer.hex()});
  other = f.identity;
  other.weights = "int4";
  refuses(other, {"another format of weights", "int4", "f32"});
  if (auto narrow = open_tiny_model(GetParam(), DType::kBF16)) {
    expect_error(restore_state(object, narrow->engine(), f.identity), ErrorCode::kInvalidArgument,
                 {"another dtype of", "f32", "bf16"});
  }
  EXPECT_EQ(f.model.engine().states().states_in_use(), 1U);  // what was refused holds nothing
  EXPECT_TRUE(restore_state(object, f.model.engine(), f.identity).has_value());
}

TEST_P(StateSaving, DamageIsFoundBeforeAnythingIsRestored) {
  Fixture f(GetParam(), DType::kF32);
  const runtime::StateSections sections(f.model.engine(), f.identity, f.session.snapshot(), {});
  auto bytes = Fixture::value(formats::encode_state(sections.description(), sections.sources()));
  Random random(6);
  for (int i = 0; i < 50; ++i) {
    const std::uint64_t bit = random.next() % (bytes.size() * 8);
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    const auto object = StateObject::parse(bytes, "a.state");
    EXPECT_TRUE(!object || !restore_state(*object, f.model.engine(), f.identity)) << "bit " << bit;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  }
  EXPECT_EQ(f.model.engine().states().states_in_use(), 1U);
}

// To bf16 and int8 and back: an engine of that dtype goes on, and what it says is close to what it would have said.
TEST_P(StateSaving, ConvertedStatesGoOnInEnginesOfTheirDtype) {
  const TemporaryFolder folder;
  Fixture f(GetParam(), DType::kF32);
  const auto path = folder.path() / "f32.state";
  ASSERT_TRUE(save_state(path, f.model.engine(), f.identity, f.session.snapshot()));
  const auto object = Fixture::value(StateObject::open(path));
  for (const DType dtype : {DType::kBF16, DType::kI8}) {
    auto narrow = open_tiny_model(GetParam(), dtype);
    if (!narrow) continue;
    const auto converted = folder.path() / "narrow.state";
    const auto done =
        runtime::convert_state_file(object, converted, {.layout = &narrow->engine().model().state_layout()});
    ASSERT_TRUE(done) << done.error().message;
    const auto narrow_object = Fixture::value(StateObject::open(converted));
    auto restored = restore_state(narrow_object, narrow->engine(), f.identity);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_EQ(restored->state.position(), 70);
    runtime::Session session(narrow->engine(), restored->state);
    runtime::Session exact = f.session.fork();
    const auto next = random_tokens(1, GetParam().vocabulary, 5);
    session.feed(next);
    exact.feed(next);
    double apart = 0, scale = 0;
    for (std::size_t i = 0; i < exact.logits().size(); ++i) {
      apart = std::max(apart, std::fabs(static_cast<double>(session.logits()[i]) - exact.logits()[i]));
      scale = std::max(scale, std::fabs(static_cast<double>(exact.logits()[i])));
    }
    // Each value of a state is off by half a step at the most: 2^-8 of itself, or 1/254 of the largest of its block.
    // What a layer reads from its state is a sum of such values, so off by no more than that share of the sum of their
    // sizes; a few layers and a sum of values that partly cancel are allowed a factor of ten.
    EXPECT_LE(apart / scale, dtype == DType::kBF16 ? 10 * 0x1p-8 : 10.0 / 254) << to_string(dtype);
    EXPECT_GT(apart, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, StateSaving, testing::ValuesIn(kTinyModels), [](const auto& info) {
  std::string name(info.param.name);
  std::erase(name, '-');
  return name;
});

TEST(StateMemory, SixtyFourContinuationsShareOnePrefill) {
  Fixture f(*find_tiny_model("tiny-mamba2"), DType::kF32);
  runtime::StatePool& pool = f.model.engine().states();
  const runtime::State trunk = f.session.snapshot();
  std::vector<runtime::Session> forks;
  for (int i = 0; i < 64; ++i) forks.emplace_back(f.model.engine(), trunk);
  EXPECT_EQ(pool.states_in_use(), 1U);  // nothing has been copied yet
  for (int i = 0; i < 64; ++i) {
    const std::int32_t id = i;
    forks[static_cast<std::size_t>(i)].feed({&id, 1});
  }
  EXPECT_EQ(pool.states_in_use(), 65U);  // the trunk and 64 that went their own way
  EXPECT_EQ(pool.touched_bytes(), 65 * pool.bytes_per_state());
  forks.clear();
  EXPECT_EQ(pool.states_in_use(), 1U);
  // The trunk is what it was.
  runtime::Session again(f.model.engine(), trunk);
  EXPECT_EQ(again.position(), 70);
  EXPECT_TRUE(std::ranges::equal(again.state(), f.session.state()));
}

}  // namespace
}  // namespace krait::tests
