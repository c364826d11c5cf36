// Sessions and samplers through the C interface: what forks share and what not, choices, and the order of freeing.
#include <cmath>

#include "tests/api/api_testing.h"

namespace krait::tests {
namespace {

constexpr std::string_view kBeginning = "Once upon a time there was a fox";

TEST(Sessions, HaveNoLogitsBeforeTheFirstToken) {
  const Model model = open(kTales);
  const Session session = start(model);
  const float* row = nullptr;
  std::size_t count = 0;
  EXPECT_EQ(krait_session_logits(session.get(), &row, &count), KRAIT_INVALID_ARGUMENT);
  std::int32_t id = 0;
  const Sampler sampler = sampler_of(model, 1);
  EXPECT_EQ(krait_session_sample(session.get(), sampler.get(), &id), KRAIT_INVALID_ARGUMENT);
  EXPECT_EQ(id, -1);
  EXPECT_EQ(krait_session_position(session.get()), 0);
}

TEST(Sessions, RefuseWrongTokensBeforeAnyIsRead) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, {1, 2});
  const auto before = logits(session);
  std::vector<std::int32_t> ids(700, 1);  // more than one piece
  ids.back() = 1 << 30;
  EXPECT_EQ(krait_session_feed(session.get(), ids.data(), ids.size()), KRAIT_INVALID_ARGUMENT);
  EXPECT_EQ(krait_session_position(session.get()), 2);
  EXPECT_EQ(logits(session), before);
  ok(krait_session_feed(session.get(), nullptr, 0));
  EXPECT_EQ(logits(session), before);
}

TEST(Sessions, ForksGoTheirOwnWays) {
  for (const std::string& path : {kMamba, kBamba}) {
    const Model model = open(path);
    const Session session = start(model);
    feed(session, std::vector<std::int32_t>(70, 2));
    const auto shared = logits(session);
    Session twin = fork(session);
    EXPECT_EQ(logits(twin), shared);
    feed(twin, {5, 6});
    EXPECT_EQ(krait_session_position(session.get()), 70);
    EXPECT_EQ(logits(session), shared);
    feed(session, {7, 8});

    // Each is where a sequence with its tokens alone would be.
    for (const auto& [forked, last] :
         {std::pair<const Session*, std::vector<std::int32_t>>{&twin, {5, 6}}, {&session, {7, 8}}}) {
      const Session alone = start(model);
      feed(alone, std::vector<std::int32_t>(70, 2));
      feed(alone, last);
      EXPECT_EQ(logits(*forked), logits(alone));
    }
    const auto before = logits(session);
    twin.reset();
    EXPECT_EQ(logits(session), before);
  }
}

TEST(Sessions, FeedingTextIsFeedingItsTokens) {
  const Model model = open(kTales);
  std::int32_t* ids = nullptr;
  std::size_t count = 0;
  ok(krait_tokenize(model.get(), kBeginning.data(), kBeginning.size(), 1, &ids, &count));
  const Session by_text = start(model);
  const Session by_ids = start(model);
  feed(by_text, kBeginning);
  feed(by_ids, {ids, ids + count});
  EXPECT_EQ(logits(by_text), logits(by_ids));
  EXPECT_EQ(krait_session_position(by_text.get()), static_cast<std::int64_t>(count));
  krait_free(ids);
}

TEST(Sessions, KeepTheirModelAlive) {
  Model model = open(kTales);
  Session session = start(model);
  Sampler sampler = sampler_of(model, 3);
  const auto expected = [&] {
    const Session other = start(model);
    feed(other, kBeginning);
    return go_on(other, sampler_of(model, 3), 8);
  }();
  const std::int32_t* ends = nullptr;
  std::size_t end_count = 0;
  ok(krait_model_end_ids(model.get(), &ends, &end_count));
  krait_decoder* made = nullptr;
  ok(krait_decoder_create(model.get(), &made));
  Decoder decoder(made);

  model.reset();
  feed(session, kBeginning);
  EXPECT_EQ(go_on(session, sampler, 8), expected);
  EXPECT_GE(ends[0], 0);
  session.reset();
  sampler.reset();
  const char* piece = nullptr;
  std::size_t bytes = 0;
  ok(krait_decoder_feed(made, expected[0], &piece, &bytes));
}

TEST(Sessions, SayWhenNoStateFitsAndGoOnWhenOneDoes) {
  krait_model_options options = KRAIT_MODEL_OPTIONS;
  options.state_memory = 1;  // the fewest that there are
  const Model model = open(kMamba, &options);
  krait_model_facts facts = KRAIT_MODEL_FACTS;
  ok(krait_model_describe(model.get(), &facts));
  std::vector<Session> sessions;
  while (sessions.size() < facts.states_that_fit) sessions.push_back(start(model));
  krait_session* one_more = nullptr;
  EXPECT_EQ(krait_session_create(model.get(), &one_more), KRAIT_RESOURCE_EXHAUSTED);
  EXPECT_EQ(one_more, nullptr);
  // A fork needs nothing until it goes on.
  const Session twin = fork(sessions.front());
  const std::int32_t id = 1;
  EXPECT_EQ(krait_session_feed(twin.get(), &id, 1), KRAIT_RESOURCE_EXHAUSTED) << krait_last_error();
  EXPECT_EQ(krait_session_position(twin.get()), 0);
  sessions.pop_back();
  feed(twin, {1});
}

TEST(Samplers, ForksChooseTheSame) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, kBeginning);
  const Sampler sampler = sampler_of(model, 5);
  go_on(session, sampler, 5);
  krait_sampler* other = nullptr;
  ok(krait_sampler_fork(sampler.get(), &other));
  const Sampler twin(other);
  const Session fork_of_session = fork(session);
  EXPECT_EQ(go_on(session, sampler, 20), go_on(fork_of_session, twin, 20));
}

TEST(Samplers, ChooseFromLogitsThatTheCallerHasChanged) {
  const Model model = open(kTales);
  const Session session = start(model);
  feed(session, kBeginning);
  const Sampler sampler = sampler_of(model, 5);
  std::vector<float> row(logits(session).size(), -INFINITY);
  row[42] = -3;
  std::int32_t id = -1;
  ok(krait_sampler_choose(sampler.get(), row.data(), row.size(), &id));
  EXPECT_EQ(id, 42);
  row[42] = NAN;
  EXPECT_EQ(krait_sampler_choose(sampler.get(), row.data(), row.size(), &id), KRAIT_INVALID_ARGUMENT);
  EXPECT_EQ(krait_sampler_choose(sampler.get(), row.data(), 0, &id), KRAIT_INVALID_ARGUMENT);
  EXPECT_EQ(id, -1);
}

TEST(Samplers, OfAnotherModelAreRefused) {
  const Model model = open(kTales);
  const Model other = open(kMamba);
  const Session session = start(model);
  feed(session, kBeginning);
  const Sampler sampler = sampler_of(other, 1);
  std::int32_t id = 0;
  EXPECT_EQ(krait_session_sample(session.get(), sampler.get(), &id), KRAIT_INVALID_ARGUMENT);
  const std::int32_t wrong = 1 << 20;
  EXPECT_EQ(krait_sampler_observe(sampler.get(), &wrong, 1), KRAIT_INVALID_ARGUMENT);
}

TEST(Samplers, PenaliseWhatTheyObserved) {
  const Model model = open(kMamba);
  krait_sampler_options options = KRAIT_SAMPLER_OPTIONS;
  options.temperature = 0;
  options.repetition_penalty = 4;
  krait_sampler* made = nullptr;
  ok(krait_sampler_create(model.get(), &options, &made));
  const Sampler sampler(made);
  const std::int32_t observed = 3;
  ok(krait_sampler_observe(made, &observed, 1));
  std::vector<float> row(8, 0.0F);
  row[3] = 2;
  row[5] = 1;
  std::int32_t id = -1;
  ok(krait_sampler_choose(made, row.data(), row.size(), &id));
  EXPECT_EQ(id, 5);
}

}  // namespace
}  // namespace krait::tests
