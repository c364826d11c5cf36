#include "krait/server/http_connection.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <algorithm>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/write.hpp>

namespace krait::server {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

constexpr std::uint64_t kDiscarded = 1 << 20;  // bytes of a refused body that are read away
constexpr auto kDiscardTimeout = std::chrono::seconds(2);

}  // namespace

Result<asio::ssl::context> tls_context(const std::string& certificate_file, const std::string& key_file) {
  asio::ssl::context context(asio::ssl::context::tls_server);
  boost::system::error_code ec;
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                          asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1 |
                          asio::ssl::context::no_compression,
                      ec);
  if (!ec) context.use_certificate_chain_file(certificate_file, ec);
  if (ec) {
    return fail(ErrorCode::kInvalidArgument, "[tls] {} is no certificate in PEM: {}", certificate_file, ec.message());
  }
  context.use_private_key_file(key_file, asio::ssl::context::pem, ec);
  if (ec || SSL_CTX_check_private_key(context.native_handle()) != 1) {
    if (!ec) ec = {static_cast<int>(ERR_get_error()), asio::error::get_ssl_category()};
    return fail(ErrorCode::kInvalidArgument, "[tls] {} is no private key in PEM, or not that of {}: {}", key_file,
                certificate_file, ec.message());
  }
  return context;
}

HttpConnection::HttpConnection(tcp::socket socket, asio::ssl::context* tls) {
  if (tls != nullptr) {
    tls_.emplace(std::move(socket), *tls);
  } else {
    plain_.emplace(std::move(socket));
  }
}

asio::awaitable<bool> HttpConnection::handshake(HttpClock::time_point deadline) {
  if (!tls_) co_return true;
  tcp().expires_at(deadline);
  auto [ec] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kTuple);
  co_return !ec;
}

asio::awaitable<HttpConnection::Read> HttpConnection::read_some(asio::mutable_buffer into,
                                                                HttpClock::time_point deadline) {
  tcp().expires_at(deadline);
  if (tls_) {
    auto [ec, bytes] = co_await tls_->async_read_some(into, kTuple);
    co_return Read{ec, bytes};
  }
  auto [ec, bytes] = co_await plain_->async_read_some(into, kTuple);
  co_return Read{ec, bytes};
}

asio::awaitable<bool> HttpConnection::write(std::string_view bytes, std::chrono::milliseconds limit) {
  while (!bytes.empty()) {
    const asio::const_buffer piece(bytes.data(), std::min(bytes.size(), kPiece));
    tcp().expires_after(limit);
    if (tls_) {
      auto [ec, written] = co_await asio::async_write(*tls_, piece, kTuple);
      if (ec) co_return false;
    } else {
      auto [ec, written] = co_await asio::async_write(*plain_, piece, kTuple);
      if (ec) co_return false;
    }
    bytes.remove_prefix(piece.size());
  }
  co_return true;
}

asio::awaitable<void> HttpConnection::say_end() {
  if (tls_ && tcp().socket().is_open()) {
    tcp().expires_after(kDiscardTimeout);
    // Waits for the client's own word too, which not all of them say.
    co_await tls_->async_shutdown(kTuple);
  }
  boost::system::error_code ignored;
  tcp().socket().shutdown(tcp::socket::shutdown_send, ignored);
}

asio::awaitable<void> HttpConnection::discard() {
  co_await say_end();
  tcp().expires_after(kDiscardTimeout);
  std::string buffer(kPiece, '\0');
  for (std::uint64_t total = 0; total < kDiscarded;) {
    auto [ec, got] = co_await tcp().async_read_some(asio::buffer(buffer), kTuple);
    if (ec) co_return;
    total += got;
  }
}

bool HttpConnection::hung_up() {
  if (!tcp().socket().is_open()) return true;
  pollfd look{tcp().socket().native_handle(), POLLRDHUP, 0};
  return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

std::string HttpConnection::peer() {
  boost::system::error_code ec;
  const auto address = tcp().socket().remote_endpoint(ec);
  return ec ? std::string() : address.address().to_string();
}

}  // namespace krait::server
