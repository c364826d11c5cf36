// The server over sockets with a handler of the test's own: limits and time-outs that the program gives no flags for,
// and that every request is accounted for once, however it ends. The program itself is tested by http_test.py.
#include "krait/server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "krait/core/check.h"

namespace krait::server {
namespace {

using namespace std::chrono_literals;

class EchoHandler final : public HttpHandler {
 public:
  Admission admit(HttpRequest& head) override {
    if (head.path == "/no-memory") return {.body_bytes = std::uint64_t{1} << 62};
    return {.body_bytes = 1 << 20};
  }
  HttpAnswer refuse(int status, const std::string& message) override { return {.status = status, .body = message}; }
  void handle(std::shared_ptr<Exchange> exchange) override {
    if (exchange->request().path == "/throw") throw std::runtime_error("broken");
    if (exchange->request().path == "/silent") {
      const std::lock_guard lock(mutex_);
      exchange->on_gone([this] {
        const std::lock_guard inner(mutex_);
        ++gone_;
        changed_.notify_all();
      });
      kept_.push_back(std::move(exchange));
      return;
    }
    exchange->respond({.content_type = "text/plain", .body = exchange->request().body});
  }
  void finished(const HttpRecord& record) override {
    const std::lock_guard lock(mutex_);
    records_.push_back(record);
    changed_.notify_all();
  }

  // The records of so many requests; fewer when they do not come.
  std::vector<HttpRecord> records(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 20s, [&] { return records_.size() >= count; });
    return records_;
  }
  bool gone(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return gone_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<HttpRecord> records_;
  std::vector<std::shared_ptr<Exchange>> kept_;
  int gone_ = 0;
};

class Client {
 public:
  explicit Client(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    KRAIT_CHECK(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "connect: {}", errno);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(std::string_view text) { EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), text.size()); }
  // What comes until the server closes, or until the text ends so.
  std::string receive(std::string_view end = {}) {
    std::string got;
    char piece[4096];
    for (;;) {
      if (!end.empty() && got.ends_with(end)) return got;
      const ssize_t count = ::recv(socket_, piece, sizeof piece, 0);
      if (count <= 0) return got;
      got.append(piece, static_cast<std::size_t>(count));
    }
  }

 private:
  int socket_;
};

class HttpServerTest : public testing::Test {
 protected:
  HttpServerTest() {
    options_.port = 0;
    options_.drain_timeout = 5s;
  }
  ~HttpServerTest() override { stop(); }
  std::uint16_t start() {
    server_.emplace(options_, handler_);
    const auto listening = server_->listen();
    KRAIT_CHECK(listening.has_value(), "{}", listening.error().message);
    thread_ = std::thread([this] { server_->run(); });
    return server_->port();
  }
  void stop() {
    if (!thread_.joinable()) return;
    server_->drain();
    thread_.join();
  }

  HttpOptions options_;
  EchoHandler handler_;
  std::optional<HttpServer> server_;
  std::thread thread_;
};

TEST_F(HttpServerTest, RequestsOfAConnectionComeOneAfterTheOther) {
  Client client(start());
  client.send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nonePOST /b HTTP/1.1\r\nhost: x\r\n");
  EXPECT_TRUE(client.receive("one").starts_with("HTTP/1.1 200 OK\r\n"));
  client.send("transfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n");
  const std::string second = client.receive("two");
  EXPECT_NE(second.find("connection: keep-alive"), std::string::npos) << second;
  const auto records = handler_.records(2);
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[1].path, "/b");
  EXPECT_EQ(records[1].request_bytes, 3U);
  EXPECT_TRUE(records[1].complete);
}

TEST_F(HttpServerTest, AHeadThatDoesNotComeEndsTheConnection) {
  options_.head_timeout = 200ms;
  Client client(start());
  client.send("POST /a HTTP/1.1\r\nhost: ");
  EXPECT_EQ(client.receive(), "");
  EXPECT_EQ(handler_.records(0).size(), 0U);
}

TEST_F(HttpServerTest, ABodyThatDoesNotComeEndsTheConnection) {
  options_.body_timeout = 200ms;
  Client client(start());
  client.send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc");
  EXPECT_EQ(client.receive(), "");
  const auto records = handler_.records(1);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_TRUE(records[0].admitted);
  EXPECT_FALSE(records[0].complete);
}

TEST_F(HttpServerTest, AnIdleConnectionIsClosed) {
  options_.idle_timeout = 200ms;
  Client client(start());
  EXPECT_EQ(client.receive(), "");
}

TEST_F(HttpServerTest, TooManyConnectionsAreTurnedAway) {
  options_.connections = 2;
  const std::uint16_t port = start();
  Client first(port);
  Client second(port);
  first.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
  second.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_TRUE(first.receive("\r\n\r\n").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(second.receive("\r\n\r\n").starts_with("HTTP/1.1 200"));
  {
    Client third(port);
    const std::string answer = third.receive();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503")) << answer;
    EXPECT_NE(answer.find("2 connections"), std::string::npos) << answer;
  }
  first.send("GET /b HTTP/1.1\r\nhost: x\r\n\r\n");
  EXPECT_TRUE(first.receive("\r\n\r\n").starts_with("HTTP/1.1 200"));
}

// A request whose body no memory is left for is accounted for like any other, and the next one is answered.
TEST_F(HttpServerTest, ABodyBeyondAllMemoryEndsTheRequestAlone) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  GTEST_SKIP() << "the sanitizers end the process where no memory is left";
#endif
#endif
  const std::uint16_t port = start();
  {
    Client client(port);
    client.send("POST /no-memory HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000000000000000\r\n\r\nabc");
    const std::string answer = client.receive();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503")) << answer;
  }
  const auto records = handler_.records(1);
  ASSERT_EQ(records.size(), 1U);
  EXPECT_TRUE(records[0].admitted);
  EXPECT_EQ(records[0].status, 503);
  Client client(port);
  client.send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc");
  EXPECT_TRUE(client.receive("abc").starts_with("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, AClientThatGoesIsNoticed) {
  const std::uint16_t port = start();
  {
    Client client(port);
    client.send("GET /silent HTTP/1.1\r\nhost: x\r\n\r\n");
    std::this_thread::sleep_for(50ms);
  }
  EXPECT_TRUE(handler_.gone(1));
  EXPECT_EQ(handler_.records(1).size(), 1U);
}

TEST_F(HttpServerTest, AnExceptionIsAnAnswer) {
  Client client(start());
  client.send("GET /throw HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  const std::string answer = client.receive();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 500")) << answer;
  EXPECT_TRUE(answer.ends_with("broken")) << answer;
}

TEST_F(HttpServerTest, DrainingLetsAnswersEndAndCutsThoseThatDoNot) {
  options_.drain_timeout = 300ms;
  const std::uint16_t port = start();
  Client client(port);
  client.send("GET /silent HTTP/1.1\r\nhost: x\r\n\r\n");
  std::this_thread::sleep_for(50ms);
  stop();
  EXPECT_TRUE(server_->draining());
  EXPECT_TRUE(handler_.gone(1));
  EXPECT_EQ(server_->open_connections(), 0);
}

TEST_F(HttpServerTest, FilesThatAreNoCertificatesAreNamed) {
  options_.tls_certificate = options_.tls_key = "/dev/null";
  HttpServer server(options_, handler_);
  const auto listening = server.listen();
  ASSERT_FALSE(listening);
  EXPECT_NE(listening.error().message.find("/dev/null is no certificate"), std::string::npos)
      << listening.error().message;
}

}  // namespace
}  // namespace krait::server
