#include "krait/server/http_server.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <csignal>
#include <random>
#include <set>
#include <tuple>
#include <utility>

#include "krait/core/check.h"
#include "krait/core/random.h"
#include "krait/runtime/slab.h"
#include "krait/server/http_exchange.h"

namespace krait::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kPiece = 64 << 10;  // written under one time-out
constexpr auto kHangUpCheck = std::chrono::milliseconds(100);
constexpr std::uint64_t kDiscarded = 1 << 20;  // bytes of a refused body that are read away
constexpr auto kDiscardTimeout = std::chrono::seconds(2);
constexpr std::chrono::seconds kLongestBody{24 * 3600};
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
constexpr std::size_t kLongestId = 128;

// One connection; only the thread that moves bytes touches it.
struct Connection {
  explicit Connection(tcp::socket socket) : stream(std::move(socket)), wake(stream.get_executor()) {}
  beast::tcp_stream stream;
  asio::steady_timer wake;
  beast::flat_buffer buffer;
  std::string peer;
  bool idle = true;  // between two requests
  std::weak_ptr<QueuedExchange> current;
};
using ConnectionPtr = std::shared_ptr<Connection>;

bool hung_up(Connection& connection) {
  if (!connection.stream.socket().is_open()) return true;
  pollfd look{connection.stream.socket().native_handle(), POLLRDHUP, 0};
  return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

// Tells the handler of a request that it has judged that this is over: once, and on every way out, an exception's too.
class Judged {
 public:
  Judged(HttpHandler& handler, const HttpRecord& record) : handler_(handler), record_(record) {}
  ~Judged() {
    try {
      over();
    } catch (const std::exception&) {
      // Out of memory for a line of the log; what counts was done before it.
    }
  }
  Judged(const Judged&) = delete;
  Judged& operator=(const Judged&) = delete;
  void over() {
    if (!std::exchange(over_, true)) handler_.finished(record_);
  }

 private:
  HttpHandler& handler_;
  const HttpRecord& record_;
  bool over_ = false;
};

// What a client sent is no HTTP, as opposed to one that went away or took too long.
bool malformed(const boost::system::error_code& ec) {
  return ec.category() == http::make_error_code(http::error::bad_method).category() &&
         ec != http::error::end_of_stream && ec != http::error::partial_message;
}

// An id that may stand in a header and a line of a log as it is.
bool fit_for_id(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && std::ranges::all_of(text, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.' || c == ':';
  });
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// False for a target that is no path.
bool set_target(std::string_view target, HttpRequest& request) {
  if (target.starts_with("http://") || target.starts_with("https://")) {
    const std::size_t slash = target.find('/', target.find("//") + 2);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  target = target.substr(0, target.find('#'));
  const std::size_t question = target.find('?');
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  auto path = decode_percent(target.substr(0, question));
  if (!path || (!path->starts_with('/') && *path != "*")) return false;
  request.path = *std::move(path);
  return true;
}

std::string head_text(const HttpAnswer& answer, const std::string& id, bool chunked, bool delimited, bool keep_alive) {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", answer.status, reason_phrase(answer.status));
  if (!answer.content_type.empty()) text += fmt::format("content-type: {}\r\n", answer.content_type);
  for (const HttpHeader& header : answer.headers) text += fmt::format("{}: {}\r\n", header.name, header.value);
  text += fmt::format("x-request-id: {}\r\n", id);
  if (chunked) {
    text += "transfer-encoding: chunked\r\n";
  } else if (delimited && answer.status != 204) {
    text += fmt::format("content-length: {}\r\n", answer.body.size());
  }
  text += keep_alive ? "connection: keep-alive\r\n\r\n" : "connection: close\r\n\r\n";
  return text;
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpOptions chosen, HttpHandler& answering)
      : options(std::move(chosen)),
        handler(answering),
        acceptor(io),
        signals(io),
        drain_timer(io),
        workers(static_cast<std::size_t>(std::max(options.workers, 1))),
        ids(std::random_device{}()) {}

  HttpOptions options;
  HttpHandler& handler;
  asio::io_context io{1};
  tcp::acceptor acceptor;
  asio::signal_set signals;
  asio::steady_timer drain_timer;
  asio::thread_pool workers;
  Random ids;
  std::set<ConnectionPtr> connections;
  std::atomic<bool> draining{false};
  std::atomic<std::int64_t> open{0};

  Result<void> listen();
  asio::awaitable<void> accept();
  asio::awaitable<void> serve(ConnectionPtr connection);
  asio::awaitable<bool> serve_one(ConnectionPtr connection);
  asio::awaitable<bool> write(Connection& connection, std::string_view bytes);
  asio::awaitable<bool> write_answer(Connection& connection, QueuedExchange& exchange, bool keep_alive, bool http11,
                                     HttpRecord& record);
  asio::awaitable<bool> refuse(Connection& connection, Judged& judged, HttpRecord& record, HttpAnswer answer,
                               bool keep_alive, Clock::time_point start);
  asio::awaitable<void> discard(Connection& connection);
  asio::awaitable<void> turn_away(ConnectionPtr connection);
  void answer(const std::shared_ptr<QueuedExchange>& exchange);
  void begin_drain();
  void cut();
  void end_if_drained();
  void wait_for_signal();
};

Result<void> HttpServer::Impl::listen() {
  boost::system::error_code ec;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, ec);
  if (ec || found.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[server] {} is no address of this machine: {}", options.host,
                ec ? ec.message() : std::string("no address"));
  }
  const tcp::endpoint endpoint = *found.begin();
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) {
    return fail(ErrorCode::kInputOutput, "[server] cannot listen on {} port {}: {}", options.host, options.port,
                ec.message());
  }
  return {};
}

asio::awaitable<void> HttpServer::Impl::accept() {
  while (acceptor.is_open()) {
    auto [ec, socket] = co_await acceptor.async_accept(kTuple);
    if (!acceptor.is_open()) co_return;
    if (ec) {
      // Out of descriptors, most likely: others must end first.
      asio::steady_timer pause(io, kAcceptPause);
      co_await pause.async_wait(kTuple);
      continue;
    }
    boost::system::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(options.stream_buffer)), ignored);
    auto connection = std::make_shared<Connection>(std::move(socket));
    const auto peer = connection->stream.socket().remote_endpoint(ignored);
    if (!ignored) connection->peer = peer.address().to_string();
    const bool room = static_cast<std::int64_t>(connections.size()) < options.connections;
    if (room) {
      connections.insert(connection);
      open = static_cast<std::int64_t>(connections.size());
      asio::co_spawn(io, serve(connection), asio::detached);
    } else {
      asio::co_spawn(io, turn_away(connection), asio::detached);
    }
  }
}

asio::awaitable<void> HttpServer::Impl::turn_away(ConnectionPtr connection) {
  connection->stream.expires_after(kDiscardTimeout);
  HttpAnswer answer =
      handler.refuse(503, fmt::format("the server has {} connections, which is its limit", options.connections));
  const std::string text = head_text(answer, "none", false, true, false) + answer.body;
  if (co_await write(*connection, text)) co_await discard(*connection);
  connection->stream.close();
}

asio::awaitable<void> HttpServer::Impl::serve(ConnectionPtr connection) {
  try {
    bool more = true;
    while (more) more = co_await serve_one(connection);
  } catch (const std::exception&) {
    // Nothing that belongs to one connection may end the others.
  }
  connection->stream.close();
  connections.erase(connection);
  open = static_cast<std::int64_t>(connections.size());
  end_if_drained();
}

// One request and its answer. False when the connection is to be closed.
asio::awaitable<bool> HttpServer::Impl::serve_one(ConnectionPtr connection) {
  Connection& c = *connection;
  if (c.buffer.size() == 0) {
    if (draining) co_return false;
    c.idle = true;
    c.stream.expires_after(options.idle_timeout);
    auto [ec, got] = co_await c.stream.async_read_some(c.buffer.prepare(kPiece / 4), kTuple);
    c.idle = false;
    if (ec) co_return false;
    c.buffer.commit(got);
  }

  Parser parser;
  parser.header_limit(options.head_bytes);
  parser.body_limit(boost::none);
  c.stream.expires_after(options.head_timeout);
  auto [head_error, head_bytes] = co_await http::async_read_header(c.stream, c.buffer, parser, kTuple);
  const Clock::time_point start = Clock::now();
  HttpRecord record;
  record.peer = c.peer;
  record.id = fmt::format("req_{:016x}", ids.next());
  if (head_error && !malformed(head_error)) co_return false;
  Judged judged(handler, record);
  if (head_error == http::error::header_limit || head_error == http::error::buffer_overflow) {
    co_return co_await refuse(
        c, judged, record,
        handler.refuse(431, fmt::format("the head of the request is longer than {} bytes", options.head_bytes)), false,
        start);
  }
  if (head_error) {
    co_return co_await refuse(c, judged, record,
                              handler.refuse(400, "malformed HTTP request: " + head_error.message()), false, start);
  }

  const auto& message = parser.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.peer = c.peer;
  for (const auto& field : message) {
    request.headers.push_back({lower(std::string_view(field.name_string().data(), field.name_string().size())),
                               std::string(field.value().data(), field.value().size())});
  }
  const std::string_view asked_id = request.header("x-request-id");
  if (fit_for_id(asked_id)) record.id = asked_id;
  request.id = record.id;
  record.method = request.method;
  const bool http11 = message.version() >= 11;
  const bool has_body = !parser.is_done();
  bool keep_alive = message.keep_alive() && !draining;
  if (!set_target(std::string_view(message.target().data(), message.target().size()), request)) {
    co_return co_await refuse(c, judged, record, handler.refuse(400, "the target of the request is no path"), false,
                              start);
  }
  record.path = request.path;

  auto admission = handler.admit(request);
  record.key = request.key;
  record.admitted = !admission.refusal;
  const auto too_large = [&](std::uint64_t limit) {
    return handler.refuse(
        413, fmt::format("the body is larger than {} bytes, which is the limit of {}", limit, request.path));
  };
  if (!admission.refusal && parser.content_length() && *parser.content_length() > admission.body_bytes) {
    admission.refusal = too_large(admission.body_bytes);
  }
  if (admission.refusal) {
    co_return co_await refuse(c, judged, record, *std::move(admission.refusal), keep_alive && !has_body, start);
  }

  if (has_body) {
    if (lower(request.header("expect")) == "100-continue") {
      c.stream.expires_after(options.write_timeout);
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      auto [ec, ignored] = co_await asio::async_write(c.stream, asio::buffer(kContinue), kTuple);
      if (ec) co_return false;
    }
    parser.body_limit(admission.body_bytes);
    const std::uint64_t expected = parser.content_length() ? *parser.content_length() : admission.body_bytes;
    c.stream.expires_after(options.body_timeout + std::min(kLongestBody, std::chrono::seconds(expected / kPiece)));
    boost::system::error_code ec;
    bool fits = true;
    try {
      std::tie(ec, std::ignore) = co_await http::async_read(c.stream, c.buffer, parser, kTuple);
    } catch (const std::bad_alloc&) {
      fits = false;
    }
    if (!fits) {
      co_return co_await refuse(c, judged, record,
                                handler.refuse(503, "the server has no memory for the body of the request"), false,
                                start);
    }
    if (ec == http::error::body_limit) {
      co_return co_await refuse(c, judged, record, too_large(admission.body_bytes), false, start);
    }
    if (ec && malformed(ec)) {
      co_return co_await refuse(c, judged, record, handler.refuse(400, "malformed HTTP body: " + ec.message()), false,
                                start);
    }
    if (ec) co_return false;
    request.body = std::move(parser.get().body());
  }
  record.request_bytes = request.body.size();

  const std::weak_ptr<Connection> weak = connection;
  auto exchange = std::make_shared<QueuedExchange>(std::move(request), options.stream_buffer, [this, weak] {
    asio::post(io, [weak] {
      const ConnectionPtr woken = weak.lock();
      if (!woken) return;
      woken->wake.cancel();
      // Its reader is given up, and a write to it may be waiting.
      const auto answered = woken->current.lock();
      if (answered && answered->given_up()) woken->stream.close();
    });
  });
  c.current = exchange;
  asio::post(workers, [this, exchange] { answer(exchange); });
  const bool complete = co_await write_answer(c, *exchange, keep_alive, http11, record);
  c.current.reset();
  exchange->close(complete);
  record.complete = complete;
  record.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  record.notes = exchange->notes();
  judged.over();
  co_return complete&& keep_alive&& http11 && !draining;
}

// On a worker.
void HttpServer::Impl::answer(const std::shared_ptr<QueuedExchange>& exchange) {
  const auto give_up = [&](int status, const std::string& message) {
    if (exchange->begun()) {
      exchange->cut();
    } else {
      exchange->note("error", message);
      exchange->respond(handler.refuse(status, message));
    }
  };
  try {
    handler.handle(exchange);
  } catch (const runtime::ExhaustedError& error) {
    give_up(503, error.what());
  } catch (const UserError& error) {
    give_up(400, error.what());
  } catch (const std::bad_alloc&) {
    give_up(503, "the server is out of memory");
  } catch (const std::exception& error) {
    give_up(500, error.what());
  }
}

asio::awaitable<bool> HttpServer::Impl::write(Connection& connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), kPiece);
    connection.stream.expires_after(options.write_timeout);
    auto [ec, written] = co_await asio::async_write(connection.stream, asio::buffer(bytes.data(), count), kTuple);
    if (ec) co_return false;
    bytes.remove_prefix(written);
  }
  co_return true;
}

asio::awaitable<bool> HttpServer::Impl::write_answer(Connection& connection, QueuedExchange& exchange, bool keep_alive,
                                                     bool http11, HttpRecord& record) {
  const bool silent = exchange.request().method == "HEAD";
  bool chunked = false;
  for (;;) {
    QueuedExchange::Taken taken = exchange.take();
    if (taken.given_up) co_return false;
    if (taken.head) {
      record.status = taken.head->status;
      chunked = taken.streamed && http11;
      const std::string head =
          head_text(*taken.head, record.id, chunked, !taken.streamed, keep_alive && http11 && !draining);
      if (!co_await write(connection, head)) co_return false;
      if (!silent && taken.head->status != 204) {
        if (!co_await write(connection, taken.head->body)) co_return false;
        record.answer_bytes += taken.head->body.size();
      }
    }
    if (!taken.pieces.empty() && !silent) {
      record.answer_bytes += taken.pieces.size();
      if (chunked) taken.pieces = fmt::format("{:x}\r\n{}\r\n", taken.pieces.size(), taken.pieces);
      if (!co_await write(connection, taken.pieces)) co_return false;
    }
    if (taken.last) {
      if (chunked && !silent && !co_await write(connection, "0\r\n\r\n")) co_return false;
      co_return true;
    }
    if (taken.head || !taken.pieces.empty()) continue;
    connection.wake.expires_after(kHangUpCheck);
    co_await connection.wake.async_wait(kTuple);
    if (hung_up(connection)) co_return false;
  }
}

asio::awaitable<bool> HttpServer::Impl::refuse(Connection& connection, Judged& judged, HttpRecord& record,
                                               HttpAnswer answer, bool keep_alive, Clock::time_point start) {
  record.status = answer.status;
  record.answer_bytes = answer.body.size();
  std::string text = head_text(answer, record.id, false, true, keep_alive);
  if (record.method != "HEAD") text += answer.body;
  record.complete = co_await write(connection, text);
  record.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  judged.over();
  if (record.complete && !keep_alive) co_await discard(connection);
  co_return record.complete&& keep_alive;
}

// A socket that is closed with bytes unread resets the connection, and the answer may be lost on its way.
asio::awaitable<void> HttpServer::Impl::discard(Connection& connection) {
  boost::system::error_code ignored;
  connection.stream.socket().shutdown(tcp::socket::shutdown_send, ignored);
  connection.stream.expires_after(kDiscardTimeout);
  std::string buffer(kPiece, '\0');
  for (std::uint64_t total = 0; total < kDiscarded;) {
    auto [ec, got] = co_await connection.stream.async_read_some(asio::buffer(buffer), kTuple);
    if (ec) co_return;
    total += got;
  }
}

void HttpServer::Impl::wait_for_signal() {
  signals.async_wait([this](const boost::system::error_code& ec, int) {
    if (ec) return;
    begin_drain();
    if (!connections.empty()) wait_for_signal();
  });
}

void HttpServer::Impl::begin_drain() {
  if (draining.exchange(true)) {
    cut();
    return;
  }
  boost::system::error_code ignored;
  acceptor.close(ignored);
  for (const ConnectionPtr& connection : connections) {
    if (connection->idle) connection->stream.close();
  }
  drain_timer.expires_after(options.drain_timeout);
  drain_timer.async_wait([this](const boost::system::error_code& ec) {
    if (!ec) cut();
  });
  end_if_drained();
}

void HttpServer::Impl::cut() {
  for (const ConnectionPtr& connection : connections) {
    connection->stream.close();
    connection->wake.cancel();
  }
}

void HttpServer::Impl::end_if_drained() {
  if (!draining || !connections.empty()) return;
  signals.cancel();
  drain_timer.cancel();
}

HttpServer::HttpServer(HttpOptions options, HttpHandler& handler)
    : impl_(std::make_unique<Impl>(std::move(options), handler)) {}

HttpServer::~HttpServer() = default;

Result<void> HttpServer::listen() { return impl_->listen(); }

std::uint16_t HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::run() {
  impl_->signals.add(SIGTERM);
  impl_->signals.add(SIGINT);
  impl_->wait_for_signal();
  asio::co_spawn(impl_->io, impl_->accept(), asio::detached);
  impl_->io.run();
  impl_->workers.join();
}

void HttpServer::drain() {
  asio::post(impl_->io, [this] { impl_->begin_drain(); });
}

bool HttpServer::draining() const { return impl_->draining; }

std::int64_t HttpServer::open_connections() const { return impl_->open; }

}  // namespace krait::server
