#include "krait/load/http_client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

namespace krait::load {

Result<ServerAddress> resolve(std::string_view url) {
  const std::string_view whole = url;
  if (url.starts_with("https://")) {
    return fail(ErrorCode::kUnsupported, "[http] {}: TLS is not spoken here; ask behind it, with http://", whole);
  }
  if (url.starts_with("http://")) url.remove_prefix(7);
  ServerAddress server;
  const std::size_t slash = url.find('/');
  if (slash != std::string_view::npos) {
    server.prefix = url.substr(slash);
    while (server.prefix.ends_with('/')) server.prefix.pop_back();
    url = url.substr(0, slash);
  }
  server.host = url;
  std::string host(url), port = "80";
  const std::size_t colon = url.rfind(':');
  if (colon != std::string_view::npos && url.find(']', colon) == std::string_view::npos) {
    host = url.substr(0, colon);
    port = url.substr(colon + 1);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || port.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[http] \"{}\" is no URL such as http://127.0.0.1:8080", whole);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int wrong = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); wrong != 0) {
    return fail(ErrorCode::kNotFound, "[http] there is no server {}: {}", whole, gai_strerror(wrong));
  }
  std::memcpy(&server.address, found->ai_addr, found->ai_addrlen);
  server.address_bytes = found->ai_addrlen;
  server.family = found->ai_family;
  freeaddrinfo(found);
  return server;
}

ClientConnection::ClientConnection(ClientConnection&& other) noexcept { *this = std::move(other); }

ClientConnection& ClientConnection::operator=(ClientConnection&& other) noexcept {
  if (this == &other) return *this;
  close();
  descriptor_ = std::exchange(other.descriptor_, -1);
  connecting_ = other.connecting_;
  request_ = std::move(other.request_);
  sent_ = other.sent_;
  return *this;
}

Result<void> ClientConnection::open(const ServerAddress& server) {
  close();
  descriptor_ = socket(server.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0) return fail(ErrorCode::kInputOutput, "[http] no socket: {}", std::strerror(errno));
  const int on = 1;
  setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  connecting_ = true;
  if (connect(descriptor_, reinterpret_cast<const sockaddr*>(&server.address), server.address_bytes) != 0 &&
      errno != EINPROGRESS) {
    const int wrong = errno;
    close();
    return fail(ErrorCode::kInputOutput, "[http] cannot connect to {}: {}", server.host, std::strerror(wrong));
  }
  return {};
}

void ClientConnection::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void ClientConnection::send(std::string request) {
  request_ = std::move(request);
  sent_ = 0;
}

Result<void> ClientConnection::ready(StreamReader& reader, bool& closed) {
  closed = false;
  if (connecting_) {
    int wrong = 0;
    socklen_t size = sizeof(wrong);
    getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &wrong, &size);
    if (wrong != 0) return fail(ErrorCode::kInputOutput, "[http] cannot connect: {}", std::strerror(wrong));
    connecting_ = false;
  }
  while (sent_ < request_.size()) {
    const ssize_t count = ::send(descriptor_, request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL);
    if (count < 0) break;  // not now, or never: an answer may be there before all is sent
    sent_ += static_cast<std::size_t>(count);
  }
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = recv(descriptor_, buffer, sizeof(buffer), 0);
    if (count > 0) {
      KRAIT_TRY(reader.feed({buffer, static_cast<std::size_t>(count)}));
      if (reader.done()) return {};
      continue;
    }
    if (count == 0) {
      closed = true;
      return reader.end();
    }
    if (errno == EAGAIN || errno == EINTR) return {};
    closed = true;
    return fail(ErrorCode::kInputOutput, "[http] the connection broke: {}", std::strerror(errno));
  }
}

std::string request_text(const ServerAddress& server, std::string_view method, std::string_view path,
                         std::string_view key, std::string_view body) {
  std::string text =
      fmt::format("{} {}{} HTTP/1.1\r\nhost: {}\r\nuser-agent: krait\r\n", method, server.prefix, path, server.host);
  if (!key.empty()) text += fmt::format("authorization: Bearer {}\r\n", key);
  if (method != "GET") text += fmt::format("content-type: application/json\r\ncontent-length: {}\r\n", body.size());
  return fmt::format("{}\r\n{}", text, body);
}

Result<PlainAnswer> ask(const ServerAddress& server, std::string_view request, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  ClientConnection connection;
  KRAIT_TRY(connection.open(server));
  connection.send(std::string(request));
  StreamReader reader;
  while (!reader.done()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return fail(ErrorCode::kInputOutput, "[http] {} did not answer in {} s", server.host, seconds);
    pollfd look{connection.descriptor(), static_cast<short>(connection.wants_to_write() ? POLLIN | POLLOUT : POLLIN),
                0};
    if (const int count = poll(&look, 1, static_cast<int>(left)); count < 0) {
      if (errno == EINTR) return fail(ErrorCode::kCancelled, "[http] interrupted");
      return fail(ErrorCode::kInputOutput, "[http] poll: {}", std::strerror(errno));
    } else if (count == 0) {
      continue;
    }
    bool closed = false;
    KRAIT_TRY(connection.ready(reader, closed));
  }
  return PlainAnswer{reader.status(), reader.body()};
}

}  // namespace krait::load
