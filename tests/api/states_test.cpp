// States that are kept through the C interface: they go on bit for bit, and what does not belong is refused.
#include <cstring>

#include "tests/api/api_testing.h"
#include "tests/formats/temporary_folder.h"

namespace krait::tests {
namespace {

Session load(const Model& model, const std::vector<std::byte>& bytes, Sampler* sampler = nullptr) {
  krait_session* session = nullptr;
  krait_sampler* chooser = nullptr;
  ok(krait_session_load_bytes(model.get(), bytes.data(), bytes.size(), &session,
                              sampler == nullptr ? nullptr : &chooser));
  if (sampler != nullptr) sampler->reset(chooser);
  return Session(session);
}

void expect_refused(const Model& model, const std::vector<std::byte>& bytes, krait_status status, const char* part) {
  auto* session = reinterpret_cast<krait_session*>(1);
  auto* sampler = reinterpret_cast<krait_sampler*>(1);
  EXPECT_EQ(krait_session_load_bytes(model.get(), bytes.data(), bytes.size(), &session, &sampler), status)
      << krait_last_error();
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(sampler, nullptr);
  EXPECT_NE(std::strstr(krait_last_error(), part), nullptr) << krait_last_error();
}

TEST(States, GoOnBitForBitFromAFileAndFromBytes) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "state").string();
  for (const std::string& path : {kMamba, kBamba}) {
    const Model model = open(path);
    const Session session = start(model);
    feed(session, std::vector<std::int32_t>(70, 3));
    krait_save_options options = KRAIT_SAVE_OPTIONS;
    ok(krait_session_save(session.get(), file.c_str(), &options));
    options.compression = 3;
    const auto bytes = save(session, &options);

    krait_session* made = nullptr;
    ok(krait_session_load(model.get(), file.c_str(), &made, nullptr));
    const Session from_file(made);
    const Session from_bytes = load(model, bytes);
    for (const Session* loaded : {&from_file, &from_bytes}) {
      EXPECT_EQ(krait_session_position(loaded->get()), 70);
      EXPECT_EQ(logits(*loaded), logits(session));
    }
    feed(session, {4, 5, 6});
    for (const Session* loaded : {&from_file, &from_bytes}) {
      feed(*loaded, {4, 5, 6});
      EXPECT_EQ(logits(*loaded), logits(session));
    }
  }
}

TEST(States, GoOnInAnotherModelOfTheSameFiles) {
  std::vector<std::byte> bytes;
  std::vector<float> expected;
  {
    const Model model = open(kTales);
    const Session session = start(model);
    feed(session, "The old lighthouse");
    bytes = save(session);
    feed(session, " stood");
    expected = logits(session);
  }
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  options.threads = 1;
  const Model model = open(kTales, &options);
  const Session session = load(model, bytes);
  feed(session, " stood");
  EXPECT_EQ(logits(session), expected);
}

TEST(States, KeepTheSamplerDrawForDraw) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, "Once upon a time");
  const Sampler sampler = sampler_of(model, 9);
  go_on(session, sampler, 5);
  krait_save_options options = KRAIT_SAVE_OPTIONS;
  options.sampler = sampler.get();
  const auto bytes = save(session, &options);
  Sampler again;
  const Session loaded = load(model, bytes, &again);
  ASSERT_NE(again, nullptr);
  EXPECT_EQ(go_on(loaded, again, 20), go_on(session, sampler, 20));

  Sampler none = sampler_of(model, 1);
  load(model, save(session), &none);
  EXPECT_EQ(none, nullptr);
}

TEST(States, OfASequenceThatHasNotBegunCanBeKeptToo) {
  const Model model = open(kTales);
  const Session loaded = load(model, save(start(model)));
  EXPECT_EQ(krait_session_position(loaded.get()), 0);
  feed(loaded, {1});
}

TEST(States, DescribeThemselves) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, {1, 2, 3});
  const Sampler sampler = sampler_of(model, 1);
  krait_save_options options = KRAIT_SAVE_OPTIONS;
  options.sampler = sampler.get();
  const std::string note = std::string(254, 'x') + "ö";  // the ö does not fit, and half of it would be no text
  options.note = note.c_str();
  const auto bytes = save(session, &options);
  krait_state_facts facts = KRAIT_STATE_FACTS;
  ok(krait_state_describe_bytes(bytes.data(), bytes.size(), &facts));
  EXPECT_EQ(facts.position, 3);
  EXPECT_EQ(facts.bytes, bytes.size());
  EXPECT_EQ(facts.has_logits, 1);
  EXPECT_EQ(facts.has_sampler, 1);
  EXPECT_STREQ(facts.architecture, "mamba2");
  EXPECT_EQ(std::strlen(facts.model), 32U);
  EXPECT_EQ(std::strlen(facts.tokenizer), 32U);
  EXPECT_EQ(std::string(facts.note), std::string(254, 'x'));
  EXPECT_EQ(krait_state_describe("/not/there", &facts), KRAIT_NOT_FOUND) << krait_last_error();
}

TEST(States, OfSomethingElseAreRefusedWithWhatDiffers) {
  const Model mamba = open(kMamba);
  const Session session = start(mamba);
  feed(session, {1, 2, 3});
  const auto bytes = save(session);
  expect_refused(open(kBamba), bytes, KRAIT_INVALID_ARGUMENT, "another architecture: mamba, and this is bamba");
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  options.weights = "bf16";
  expect_refused(open(kMamba, &options), bytes, KRAIT_INVALID_ARGUMENT, "another format of weights");
  options = KRAIT_MODEL_OPTIONS;
  options.state_dtype = "bf16";
  expect_refused(open(kMamba, &options), bytes, KRAIT_INVALID_ARGUMENT, "another dtype of");
  options = KRAIT_MODEL_OPTIONS;
  options.tokenizer = kTales.c_str();
  expect_refused(open(kMamba, &options), bytes, KRAIT_INVALID_ARGUMENT, "another tokenizer");
}

TEST(States, DamagedAnywhereAreRefused) {
  const Model model = open(kMamba);
  const Session session = start(model);
  feed(session, {1, 2, 3});
  const auto bytes = save(session);
  load(model, bytes);
  // Every byte of the prelude and some of everything behind it.
  for (std::size_t at = 0; at < bytes.size(); at += at < 64 ? 1 : 97) {
    auto damaged = bytes;
    damaged[at] ^= std::byte{0x10};
    auto* made = reinterpret_cast<krait_session*>(1);
    const krait_status status = krait_session_load_bytes(model.get(), damaged.data(), damaged.size(), &made, nullptr);
    EXPECT_TRUE(status == KRAIT_CORRUPT || status == KRAIT_UNSUPPORTED) << at << ": " << krait_last_error();
    EXPECT_EQ(made, nullptr);
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{63}, bytes.size() - 1}) {
    expect_refused(model, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}, KRAIT_CORRUPT, "[state]");
  }
  expect_refused(model, std::vector<std::byte>(4096, std::byte{'a'}), KRAIT_CORRUPT, "no state object");
}

TEST(States, OptionsThatCannotWorkAreRefused) {
  const Model model = open(kMamba);
  const Model other = open(kMamba);
  const Session session = start(model);
  const auto refused = [&](const krait_save_options& options, krait_status expected) {
    void* bytes = nullptr;
    std::size_t count = 0;
    EXPECT_EQ(krait_session_save_bytes(session.get(), &options, &bytes, &count), expected) << krait_last_error();
    EXPECT_EQ(bytes, nullptr);
  };
  krait_save_options options = KRAIT_SAVE_OPTIONS;
  options.compression = 20;
  refused(options, KRAIT_INVALID_ARGUMENT);
  options = KRAIT_SAVE_OPTIONS;
  options.reserved = 1;
  refused(options, KRAIT_UNSUPPORTED);
  options = KRAIT_SAVE_OPTIONS;
  options.note = "\xff";
  refused(options, KRAIT_INVALID_ARGUMENT);
  options = KRAIT_SAVE_OPTIONS;
  const Sampler foreign = sampler_of(other, 1);
  options.sampler = foreign.get();
  refused(options, KRAIT_INVALID_ARGUMENT);
  EXPECT_EQ(krait_session_save(session.get(), "/not/a/folder/state", nullptr), KRAIT_INPUT_OUTPUT)
      << krait_last_error();
}

}  // namespace
}  // namespace krait::tests
