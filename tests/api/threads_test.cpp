// Several threads at the C interface: different models, sessions of one model, and forks that are made and freed
// meanwhile. Every thread must get what it would get alone.
#include <functional>
#include <thread>

#include "tests/api/api_testing.h"

namespace krait::tests {
namespace {

void at_once(const std::vector<std::function<void()>>& bodies) {
  std::vector<std::thread> threads;
  for (const auto& body : bodies) threads.emplace_back(body);
  for (std::thread& thread : threads) thread.join();
}

std::vector<float> read(const Model& model, std::int32_t first) {
  const Session session = start(model);
  for (std::int32_t i = 0; i < 30; ++i) feed(session, {first, first + i % 7, 2});
  return logits(session);
}

TEST(Threads, DifferentModelsWorkAtOnce) {
  const Model one = open(kMamba);
  const Model two = open(kBamba);
  const auto expected_one = read(one, 3);
  const auto expected_two = read(two, 4);
  at_once({[&] { EXPECT_EQ(read(one, 3), expected_one); }, [&] { EXPECT_EQ(read(two, 4), expected_two); }});
}

TEST(Threads, SessionsOfOneModelTakeTurns) {
  const Model model = open(kMamba);
  const auto expected_one = read(model, 3);
  const auto expected_two = read(model, 4);
  at_once({[&] { EXPECT_EQ(read(model, 3), expected_one); }, [&] { EXPECT_EQ(read(model, 4), expected_two); },
           [&] { EXPECT_EQ(read(model, 3), expected_one); }});
}

TEST(Threads, ForksAreMadeKeptAndFreedWhileOthersGoOn) {
  const Model model = open(kBamba);
  const Session root = start(model);
  feed(root, std::vector<std::int32_t>(70, 2));
  const auto go = [&](const Session& session, std::int32_t id) {
    for (int i = 0; i < 10; ++i) {
      const Session aside = fork(session);
      feed(aside, {1});
      feed(session, {id});
      const auto bytes = save(aside);
      krait_session* again = nullptr;
      ok(krait_session_load_bytes(model.get(), bytes.data(), bytes.size(), &again, nullptr));
      EXPECT_EQ(logits(Session(again)), logits(aside));
    }
    return logits(session);
  };
  std::vector<std::vector<float>> expected;
  for (const std::int32_t id : {5, 6}) expected.push_back(go(fork(root), id));
  Session one = fork(root);
  Session two = fork(root);
  at_once({[&] { EXPECT_EQ(go(one, 5), expected[0]); }, [&] { EXPECT_EQ(go(two, 6), expected[1]); }});
}

TEST(Threads, TheLastToGoFreesTheModel) {
  for (int i = 0; i < 5; ++i) {
    Model model = open(kMamba);
    Session one = start(model);
    Session two = start(model);
    at_once({[&] {
               feed(one, {1, 2});
               one.reset();
             },
             [&] {
               feed(two, {3});
               two.reset();
             },
             [&] { model.reset(); }});
  }
}

}  // namespace
}  // namespace krait::tests
