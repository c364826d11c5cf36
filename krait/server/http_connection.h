// One client's connection, in the clear or under TLS: bytes in and out, each with a time limit. Only the thread that
// moves bytes touches it. Included by http_*.cpp alone, since it brings Boost.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "krait/core/error.h"

namespace krait::server {

inline constexpr auto kTuple = boost::asio::as_tuple(boost::asio::use_awaitable);
inline constexpr std::size_t kPiece = 64 << 10;  // read or written at once
using HttpClock = std::chrono::steady_clock;

// The context of a server with this chain of certificates and this private key, both PEM. TLS 1.2 and later.
Result<boost::asio::ssl::context> tls_context(const std::string& certificate_file, const std::string& key_file);

class HttpConnection {
 public:
  // `tls` outlives the connection; nullptr: in the clear.
  HttpConnection(boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls);

  // Under TLS, before anything else; true at once in the clear.
  boost::asio::awaitable<bool> handshake(HttpClock::time_point deadline);

  struct Read {
    boost::system::error_code error;
    std::size_t bytes = 0;
  };
  boost::asio::awaitable<Read> read_some(boost::asio::mutable_buffer into, HttpClock::time_point deadline);
  // False when the reader is gone, or takes nothing of a piece for so long.
  boost::asio::awaitable<bool> write(std::string_view bytes, std::chrono::milliseconds limit);

  // Says that nothing more comes.
  boost::asio::awaitable<void> say_end();
  // The same, and reads away what the client still sends: a socket that is closed with bytes unread resets the
  // connection, and the answer may be lost on its way.
  boost::asio::awaitable<void> discard();
  void close() { tcp().close(); }

  // While nobody reads, the end of a client is seen only by asking. One who has shut down its half counts as gone.
  bool hung_up();
  std::string peer();  // its address

 private:
  boost::beast::tcp_stream& tcp() { return tls_ ? tls_->next_layer() : *plain_; }

  std::optional<boost::beast::tcp_stream> plain_;
  std::optional<boost::beast::ssl_stream<boost::beast::tcp_stream>> tls_;
};

}  // namespace krait::server
