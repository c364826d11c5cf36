#include "krait/load/stream_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace krait::load {
namespace {

const std::string kStream =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    "7\r\ndata: a\r\nd\r\n\n\ndata: bc\n\nd\r\n8\r\nata: d\n\n\r\n0\r\n\r\n";

TEST(StreamReader, FindsEventsHoweverTheBytesAreCut) {
  for (std::size_t piece = 1; piece <= kStream.size(); ++piece) {
    std::vector<std::string> events;
    StreamReader reader([&](std::string_view data) { events.emplace_back(data); });
    for (std::size_t at = 0; at < kStream.size(); at += piece) {
      const auto fed = reader.feed(std::string_view(kStream).substr(at, piece));
      ASSERT_TRUE(fed) << piece << ": " << fed.error().message;
    }
    EXPECT_TRUE(reader.done()) << piece;
    EXPECT_EQ(reader.status(), 200);
    EXPECT_TRUE(reader.keep_alive());
    EXPECT_EQ(events, (std::vector<std::string>{"a", "bc", "d"})) << piece;
  }
}

TEST(StreamReader, KnowsWhereABodyEnds) {
  StreamReader counted;
  ASSERT_TRUE(counted.feed("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhel"));
  EXPECT_FALSE(counted.done());
  ASSERT_TRUE(counted.feed("lo"));
  EXPECT_TRUE(counted.done());
  EXPECT_FALSE(counted.keep_alive());
  EXPECT_EQ(counted.status(), 429);
  EXPECT_EQ(counted.body(), "hello");

  StreamReader open;
  ASSERT_TRUE(open.feed("HTTP/1.0 200 OK\r\n\r\nall of it"));
  EXPECT_FALSE(open.done());
  ASSERT_TRUE(open.end());
  EXPECT_TRUE(open.done());
  EXPECT_EQ(open.body(), "all of it");

  StreamReader after_continue;
  ASSERT_TRUE(after_continue.feed("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"));
  EXPECT_TRUE(after_continue.done());
  EXPECT_EQ(after_continue.status(), 204);
}

TEST(StreamReader, SeesTornAndMalformedAnswers) {
  StreamReader torn;
  ASSERT_TRUE(torn.feed(kStream.substr(0, kStream.size() - 5)));
  EXPECT_EQ(torn.end().error().code, ErrorCode::kInputOutput);
  for (const std::string& bytes :
       {std::string("SSH-2.0-x\r\n\r\n"), std::string("HTTP/1.1 9 x\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        std::string("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n"),
        std::string("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab"), std::string(100'000, 'x')}) {
    StreamReader reader;
    const auto fed = reader.feed(bytes);
    ASSERT_FALSE(fed) << bytes.substr(0, 60);
    EXPECT_EQ(fed.error().code, ErrorCode::kCorrupt);
  }
}

}  // namespace
}  // namespace krait::load
