// The C++ interface: that it says what the C interface says, throws what that returns, and frees what that gives.
#include <gtest/gtest.h>

#include "krait.hpp"
#include "tests/formats/temporary_folder.h"

namespace {

const std::string kMamba = KRAIT_SOURCE_DIR "/tests/golden/mamba_tied";

std::string told(krait::Session& session, krait::Sampler& sampler, std::size_t most) {
  std::string text;
  krait::write(session, sampler, most, [&](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

TEST(Cpp, ErrorsAreThrownWithTheirStatus) {
  try {
    const krait::Model model("/nowhere/at/all");
    FAIL() << "opened";
  } catch (const krait::Error& error) {
    EXPECT_EQ(error.status(), KRAIT_NOT_FOUND);
    EXPECT_NE(std::string(error.what()).find("/nowhere/at/all"), std::string::npos);
  }
  EXPECT_THROW(krait::Model(kMamba, {.weights = "int3"}), krait::Error);
}

TEST(Cpp, TextGoesToTokensAndBack) {
  const krait::Model model(krait::bundled_model());
  const auto ids = model.tokenize("a fox and a crow");
  EXPECT_EQ(model.detokenize(ids), "a fox and a crow");
  EXPECT_EQ(model.tokenize("").size(), 0U);
  EXPECT_TRUE(model.ends_text(model.end_ids()[0]));
  EXPECT_GT(model.facts().layers, 0);
}

TEST(Cpp, ASessionGoesOnFromAFileAndFromBytesAndFromAFork) {
  const krait::tests::TemporaryFolder folder;
  const std::string file = (folder.path() / "state").string();
  const krait::Model model(krait::bundled_model(), {.threads = 1});
  krait::Session session(model);
  session.feed("Once upon a time there was a fox");
  krait::Sampler sampler(model, {.seed = 7, .repetition_penalty = 1.2F});
  sampler.observe(model.tokenize("Once upon a time there was a fox"));
  told(session, sampler, 5);

  session.save(file, {.sampler = &sampler, .note = "five tokens", .compression = 1});
  const auto bytes = session.save({.sampler = &sampler});
  EXPECT_STREQ(krait::describe_state(file).note, "five tokens");
  EXPECT_EQ(krait::describe_state(bytes).position, session.position());
  krait::Session fork = session.fork();
  krait::Sampler fork_of_sampler = sampler.fork();
  auto from_file = krait::Session::load(model, file);
  auto from_bytes = krait::Session::load(model, bytes);

  const std::string expected = told(session, sampler, 20);
  EXPECT_GT(expected.size(), 20U);
  EXPECT_EQ(told(fork, fork_of_sampler, 20), expected);
  EXPECT_EQ(told(from_file.session, from_file.sampler.value(), 20), expected);
  EXPECT_EQ(told(from_bytes.session, from_bytes.sampler.value(), 20), expected);
}

TEST(Cpp, WritingStopsWhenItIsToldTo) {
  const krait::Model model(krait::bundled_model());
  krait::Session session(model);
  session.feed("The king");
  const auto before = session.position();
  krait::Sampler sampler(model);
  int pieces = 0;
  const auto written = krait::write(session, sampler, 100, [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(pieces, 3);
  EXPECT_EQ(session.position(), before + static_cast<std::int64_t>(written));
}

TEST(Cpp, ASessionOutlivesTheModelItWasMadeOf) {
  auto model = std::make_unique<krait::Model>(kMamba);
  krait::Session session(*model);
  model.reset();
  session.feed(std::vector<std::int32_t>{1, 2, 3});
  session.feed(4);
  EXPECT_EQ(session.position(), 4);
  EXPECT_EQ(session.logits().size(), static_cast<std::size_t>(session.model().facts().vocabulary));
}

}  // namespace
