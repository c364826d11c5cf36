// The requests of one connection, one after the other. Included by http_*.cpp alone, since it brings Boost.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>
#include <string>

#include "krait/core/random.h"
#include "krait/server/http_connection.h"
#include "krait/server/http_exchange.h"
#include "krait/server/http_server.h"

namespace krait::server {

// What the sessions of a server have in common.
struct HttpShared {
  const HttpOptions options;
  HttpHandler& handler;
  boost::asio::io_context io{1};
  boost::asio::thread_pool workers;
  Random ids;
  std::atomic<bool> draining{false};
};

class HttpSession final : public std::enable_shared_from_this<HttpSession> {
 public:
  // `shared` outlives the session.
  HttpSession(HttpShared& shared, boost::asio::ip::tcp::socket socket, boost::asio::ssl::context* tls);

  // Until the client goes, or the connection is to be closed.
  boost::asio::awaitable<void> serve();
  // Says that there are too many.
  boost::asio::awaitable<void> turn_away();

  void close_if_idle();
  void cut();  // in the middle of what it does

 private:
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  class Ending;

  boost::asio::awaitable<bool> serve_one();
  boost::asio::awaitable<boost::system::error_code> read(Parser& parser, bool whole, HttpClock::time_point deadline);
  boost::asio::awaitable<bool> refuse(Ending& ending, HttpAnswer answer, bool keep_alive);
  boost::asio::awaitable<bool> write_answer(QueuedExchange& exchange, bool keep_alive, bool http11, HttpRecord& record);
  static void answer(HttpHandler& handler, const std::shared_ptr<QueuedExchange>& exchange);
  void wake();

  HttpShared& shared_;
  HttpConnection connection_;
  boost::asio::steady_timer wake_;
  boost::beast::flat_buffer buffer_;
  const std::string peer_;
  bool idle_ = true;  // between two requests
  std::weak_ptr<QueuedExchange> current_;
};

}  // namespace krait::server
