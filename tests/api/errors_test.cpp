// What the C interface says to those who use it wrongly.
#include <cstring>
#include <thread>

#include "tests/api/api_testing.h"

namespace krait::tests {
namespace {

constexpr std::int32_t kIds[] = {1, 2};

void expect_refused(krait_status status, const std::string& part) {
  EXPECT_EQ(status, KRAIT_INVALID_ARGUMENT) << krait_last_error();
  EXPECT_EQ(krait_last_status(), KRAIT_INVALID_ARGUMENT);
  EXPECT_NE(std::string(krait_last_error()).find(part), std::string::npos) << krait_last_error();
}

TEST(Errors, NullHandlesAreRefusedByName) {
  char* text = nullptr;
  std::int32_t* ids = nullptr;
  std::int32_t id = 0;
  std::size_t count = 0;
  const std::int32_t* ends = nullptr;
  const float* row = nullptr;
  const char* piece = nullptr;
  void* bytes = nullptr;
  krait_session* session = nullptr;
  krait_sampler* sampler = nullptr;
  krait_decoder* decoder = nullptr;
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  expect_refused(krait_model_describe(nullptr, &facts), "model is null");
  expect_refused(krait_model_end_ids(nullptr, &ends, &count), "model is null");
  expect_refused(krait_tokenize(nullptr, "a", 1, 0, &ids, &count), "model is null");
  expect_refused(krait_detokenize(nullptr, kIds, 2, &text, &count), "model is null");
  expect_refused(krait_decoder_create(nullptr, &decoder), "model is null");
  expect_refused(krait_decoder_feed(nullptr, 1, &piece, &count), "decoder is null");
  expect_refused(krait_decoder_finish(nullptr, &piece, &count), "decoder is null");
  expect_refused(krait_session_create(nullptr, &session), "model is null");
  expect_refused(krait_session_fork(nullptr, &session), "session is null");
  expect_refused(krait_session_feed(nullptr, kIds, 2), "session is null");
  expect_refused(krait_session_feed_text(nullptr, "a", 1), "session is null");
  expect_refused(krait_session_logits(nullptr, &row, &count), "session is null");
  expect_refused(krait_session_sample(nullptr, nullptr, &id), "session is null");
  expect_refused(krait_sampler_create(nullptr, nullptr, &sampler), "model is null");
  expect_refused(krait_sampler_fork(nullptr, &sampler), "sampler is null");
  expect_refused(krait_sampler_observe(nullptr, kIds, 2), "sampler is null");
  expect_refused(krait_sampler_choose(nullptr, nullptr, 0, &id), "sampler is null");
  expect_refused(krait_session_save(nullptr, "x", nullptr), "session is null");
  expect_refused(krait_session_save_bytes(nullptr, nullptr, &bytes, &count), "session is null");
  expect_refused(krait_session_load(nullptr, "x", &session, nullptr), "model is null");
  expect_refused(krait_session_load_bytes(nullptr, "x", 1, &session, nullptr), "model is null");
  EXPECT_EQ(krait_session_position(nullptr), -1);
  EXPECT_EQ(krait_session_state_bytes(nullptr), 0U);
  krait_model_free(nullptr);
  krait_session_free(nullptr);
  krait_sampler_free(nullptr);
  krait_decoder_free(nullptr);
  krait_free(nullptr);
}

TEST(Errors, NullPlacesForResultsAreRefusedByName) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, {1});
  const Sampler sampler = sampler_of(model, 1);
  std::size_t count = 0;
  krait_session* other = nullptr;
  expect_refused(krait_model_open(kTales.c_str(), nullptr, nullptr), "model is null");
  krait_model* opened = nullptr;
  expect_refused(krait_model_open(nullptr, nullptr, &opened), "path is null");
  expect_refused(krait_bundled_model(nullptr), "path is null");
  expect_refused(krait_model_describe(model.get(), nullptr), "facts is null");
  expect_refused(krait_model_end_ids(model.get(), nullptr, &count), "ids is null");
  expect_refused(krait_tokenize(model.get(), "a", 1, 0, nullptr, &count), "ids is null");
  std::int32_t* ids = nullptr;
  expect_refused(krait_tokenize(model.get(), nullptr, 1, 0, &ids, &count), "text is null");
  expect_refused(krait_detokenize(model.get(), kIds, 2, nullptr, &count), "text is null");
  expect_refused(krait_decoder_create(model.get(), nullptr), "decoder is null");
  expect_refused(krait_session_create(model.get(), nullptr), "session is null");
  expect_refused(krait_session_fork(session.get(), nullptr), "fork is null");
  expect_refused(krait_session_feed(session.get(), nullptr, 2), "ids is null");
  expect_refused(krait_session_logits(session.get(), nullptr, &count), "logits is null");
  expect_refused(krait_session_sample(session.get(), sampler.get(), nullptr), "id is null");
  expect_refused(krait_session_sample(session.get(), nullptr, nullptr), "sampler is null");
  expect_refused(krait_sampler_create(model.get(), nullptr, nullptr), "sampler is null");
  expect_refused(krait_session_save(session.get(), nullptr, nullptr), "path is null");
  expect_refused(krait_session_save_bytes(session.get(), nullptr, nullptr, &count), "bytes is null");
  expect_refused(krait_session_load(model.get(), nullptr, &other, nullptr), "path is null");
  expect_refused(krait_session_load(model.get(), "x", nullptr, nullptr), "session is null");
  krait_state_facts facts = KRAIT_STATE_FACTS;
  expect_refused(krait_state_describe(nullptr, &facts), "path is null");
  expect_refused(krait_state_describe_bytes(nullptr, 1, &facts), "bytes is null");
  EXPECT_EQ(krait_session_position(session.get()), 1);
}

TEST(Errors, AModelThatIsNotThereIsNamed) {
  auto* model = reinterpret_cast<krait_model*>(1);
  EXPECT_EQ(krait_model_open("/nowhere/at/all", nullptr, &model), KRAIT_NOT_FOUND);
  EXPECT_EQ(model, nullptr);
  EXPECT_NE(std::strstr(krait_last_error(), "/nowhere/at/all"), nullptr) << krait_last_error();
}

TEST(Errors, OptionsThatDoNotExistAreNamed) {
  krait_model* model = nullptr;
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  options.weights = "int3";
  expect_refused(krait_model_open(kTales.c_str(), &options, &model), "int3");
  options = KRAIT_MODEL_OPTIONS;
  options.state_dtype = "f64";
  expect_refused(krait_model_open(kTales.c_str(), &options, &model), "f64");
  options = KRAIT_MODEL_OPTIONS;
  options.threads = -3;
  expect_refused(krait_model_open(kTales.c_str(), &options, &model), "-3 threads");
  options = KRAIT_MODEL_OPTIONS;
  options.tokenizer = "/no/such/tokenizer";
  EXPECT_EQ(krait_model_open(kTales.c_str(), &options, &model), KRAIT_NOT_FOUND) << krait_last_error();
  EXPECT_EQ(model, nullptr);

  const Model tales = open(kTales);
  krait_sampler_options choice = KRAIT_SAMPLER_OPTIONS;
  choice.top_p = 2;
  krait_sampler* sampler = nullptr;
  expect_refused(krait_sampler_create(tales.get(), &choice, &sampler), "top-p 2");
}

TEST(Errors, StructuresOfTheWrongSizeAreRefused) {
  krait_model* model = nullptr;
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  for (const std::size_t size : {std::size_t{0}, sizeof options - 1, std::size_t{1} << 40}) {
    options.size = size;
    expect_refused(krait_model_open(kTales.c_str(), &options, &model), "krait_model_options of");
  }
  const Model tales = open(kTales);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  facts.size = 8;
  expect_refused(krait_model_describe(tales.get(), &facts), "krait_model_facts of 8 bytes");
  EXPECT_EQ(facts.layers, 0);
}

TEST(Errors, LongerStructuresAreTakenWhileTheyAskForNothingUnknown) {
  struct Newer {
    krait_sampler_options known = KRAIT_SAMPLER_OPTIONS;
    std::uint64_t unknown = 0;
  } newer;
  newer.known.size = sizeof newer;
  const Model model = open(kTales);
  krait_sampler* sampler = nullptr;
  ok(krait_sampler_create(model.get(), &newer.known, &sampler));
  krait_sampler_free(sampler);
  newer.unknown = 1;
  EXPECT_EQ(krait_sampler_create(model.get(), &newer.known, &sampler), KRAIT_UNSUPPORTED);
  EXPECT_EQ(sampler, nullptr);

  struct NewerFacts {
    krait_model_facts known = KRAIT_MODEL_FACTS;
    std::uint64_t unknown = 5;
  } facts;
  facts.known.size = sizeof facts;
  ok(krait_model_describe(model.get(), &facts.known));
  EXPECT_EQ(facts.known.size, sizeof facts);
  EXPECT_EQ(facts.unknown, 0U);
}

TEST(Errors, TheLastErrorIsTheThreadsOwnAndStaysThroughSuccess) {
  krait_model* model = nullptr;
  EXPECT_EQ(krait_model_open("/not/here", nullptr, &model), KRAIT_NOT_FOUND);
  std::thread([] {
    EXPECT_EQ(krait_last_status(), KRAIT_OK);
    EXPECT_STREQ(krait_last_error(), "");
    expect_refused(krait_bundled_model(nullptr), "path");
  }).join();
  const Model tales = open(kTales);
  EXPECT_EQ(krait_last_status(), KRAIT_NOT_FOUND);
  EXPECT_NE(std::strstr(krait_last_error(), "/not/here"), nullptr);
}

TEST(Errors, StatusesHaveNames) {
  EXPECT_STREQ(krait_status_name(KRAIT_OK), "ok");
  EXPECT_STREQ(krait_status_name(KRAIT_CORRUPT), "corrupt");
  EXPECT_STREQ(krait_status_name(static_cast<krait_status>(15)), "unknown");
}

TEST(Errors, TheHeaderIsOfTheLibrarysVersion) {
  EXPECT_STREQ(krait_version(), KRAIT_VERSION);
  const std::string parts = std::to_string(KRAIT_VERSION_MAJOR) + "." + std::to_string(KRAIT_VERSION_MINOR) + "." +
                            std::to_string(KRAIT_VERSION_PATCH);
  EXPECT_EQ(parts, KRAIT_VERSION);
}

}  // namespace
}  // namespace krait::tests
