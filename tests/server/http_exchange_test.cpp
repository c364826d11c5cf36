#include "krait/server/http_exchange.h"

#include <gtest/gtest.h>

namespace krait::server {
namespace {

TEST(QueuedExchange, AWholeAnswerIsTakenOnce) {
  int wakes = 0;
  QueuedExchange exchange({}, 10, [&] { ++wakes; });
  EXPECT_FALSE(exchange.take().last);
  exchange.respond({.body = std::string(100, 'x')});  // the limit is for streams
  EXPECT_EQ(wakes, 1);
  const auto taken = exchange.take();
  ASSERT_TRUE(taken.head);
  EXPECT_EQ(taken.head->body.size(), 100u);
  EXPECT_FALSE(taken.streamed);
  EXPECT_TRUE(taken.last);
  EXPECT_FALSE(exchange.take().head);
}

TEST(QueuedExchange, PiecesComeInOrderAndTogether) {
  QueuedExchange exchange({}, 10, [] {});
  exchange.begin({});
  EXPECT_TRUE(exchange.send("ab"));
  EXPECT_TRUE(exchange.send("cd"));
  EXPECT_EQ(exchange.take().pieces, "abcd");
  EXPECT_TRUE(exchange.send("ef"));
  exchange.end();
  const auto taken = exchange.take();
  EXPECT_EQ(taken.pieces, "ef");
  EXPECT_TRUE(taken.last);
  EXPECT_FALSE(exchange.send("g"));
}

TEST(QueuedExchange, AReaderWhoFallsBehindIsGivenUp) {
  QueuedExchange exchange({}, 10, [] {});
  bool gone = false;
  exchange.on_gone([&] { gone = true; });
  exchange.begin({});
  EXPECT_TRUE(exchange.send("12345"));
  EXPECT_EQ(exchange.take().pieces, "12345");
  // What is being written counts.
  EXPECT_TRUE(exchange.send("67890"));
  EXPECT_FALSE(gone);
  EXPECT_FALSE(exchange.send("x"));
  EXPECT_TRUE(gone);
  EXPECT_TRUE(exchange.take().given_up);
  EXPECT_FALSE(exchange.send("y"));
}

TEST(QueuedExchange, AClientThatIsGoneIsToldOnce) {
  QueuedExchange exchange({}, 10, [] {});
  int gone = 0;
  exchange.on_gone([&] { ++gone; });
  exchange.close(false);
  exchange.close(false);
  EXPECT_EQ(gone, 1);
  exchange.on_gone([&] { ++gone; });  // at once
  EXPECT_EQ(gone, 2);
  exchange.respond({});  // nobody hears it
  EXPECT_FALSE(exchange.take().head);
}

TEST(QueuedExchange, AWholeAnswerThatWentOutIsNoLoss) {
  QueuedExchange exchange({}, 10, [] {});
  bool gone = false;
  exchange.on_gone([&] { gone = true; });
  exchange.respond({});
  exchange.take();
  exchange.close(true);
  EXPECT_FALSE(gone);
}

}  // namespace
}  // namespace krait::server
