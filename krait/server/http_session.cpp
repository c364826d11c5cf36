#include "krait/server/http_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "krait/runtime/slab.h"
#include "krait/server/http_head.h"

namespace krait::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

constexpr std::chrono::seconds kLongestBody{24 * 3600};
constexpr auto kHangUpCheck = std::chrono::milliseconds(100);

// The client's fault, and not that it went away.
bool malformed(const boost::system::error_code& error) {
  return error.category() == http::make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

}  // namespace

// Tells the handler once that a request has ended, and those who answer it that nobody listens any more: however the
// coroutine that serves it ends, for want of memory too.
class HttpSession::Ending {
 public:
  explicit Ending(HttpHandler& handler) : handler_(handler), start_(HttpClock::now()) {}
  ~Ending() { end(); }
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;

  void end() {
    if (std::exchange(ended_, true)) return;
    record.seconds = std::chrono::duration<double>(HttpClock::now() - start_).count();
    try {
      if (exchange) {
        exchange->close(record.complete);
        record.notes = exchange->notes();
      }
      handler_.finished(record);
    } catch (const std::exception&) {
      // A line of the log is lost, of a request that is over.
    }
  }

  HttpRecord record;
  std::shared_ptr<QueuedExchange> exchange;

 private:
  HttpHandler& handler_;
  const HttpClock::time_point start_;
  bool ended_ = false;
};

HttpSession::HttpSession(HttpShared& shared, asio::ip::tcp::socket socket, asio::ssl::context* tls)
    : shared_(shared), connection_(std::move(socket), tls), wake_(shared.io), peer_(connection_.peer()) {}

void HttpSession::close_if_idle() {
  if (idle_) connection_.close();
}

void HttpSession::cut() {
  connection_.close();
  wake_.cancel();
}

void HttpSession::wake() {
  wake_.cancel();
  // Its reader is given up, and a write to it may be waiting.
  const auto answered = current_.lock();
  if (answered && answered->given_up()) connection_.close();
}

asio::awaitable<void> HttpSession::turn_away() {
  const auto self = shared_from_this();
  if (!co_await connection_.handshake(HttpClock::now() + shared_.options.head_timeout)) co_return;
  const HttpAnswer answer = shared_.handler.refuse(
      503, fmt::format("the server has {} connections, which is its limit", shared_.options.connections));
  const std::string text = head_text(answer, "none", BodyLength::known, false) + answer.body;
  if (co_await connection_.write(text, shared_.options.write_timeout)) co_await connection_.discard();
  connection_.close();
}

asio::awaitable<void> HttpSession::serve() {
  const auto self = shared_from_this();
  try {
    bool more = co_await connection_.handshake(HttpClock::now() + shared_.options.head_timeout);
    while (more) more = co_await serve_one();
    co_await connection_.say_end();
  } catch (const std::exception&) {
    // Nothing that belongs to one connection may end the others.
  }
  connection_.close();
}

// Feeds the parser until it has the head, or the whole message.
asio::awaitable<boost::system::error_code> HttpSession::read(Parser& parser, bool whole,
                                                             HttpClock::time_point deadline) {
  parser.eager(whole);
  while (!(whole ? parser.is_done() : parser.is_header_done())) {
    if (buffer_.size() > 0) {
      boost::system::error_code error;
      buffer_.consume(parser.put(buffer_.data(), error));
      if (!error) continue;
      if (error != http::error::need_more) co_return error;
    }
    const auto [error, bytes] = co_await connection_.read_some(buffer_.prepare(kPiece), deadline);
    if (error == asio::error::eof) {
      boost::system::error_code short_of = http::error::end_of_stream;
      if (parser.got_some()) parser.put_eof(short_of);
      if (short_of) co_return short_of;
      continue;
    }
    if (error) co_return error;
    buffer_.commit(bytes);
  }
  co_return boost::system::error_code();
}

// One request and its answer. False when the connection is to be closed.
asio::awaitable<bool> HttpSession::serve_one() {
  const HttpOptions& options = shared_.options;
  HttpHandler& handler = shared_.handler;
  if (buffer_.size() == 0) {
    if (shared_.draining) co_return false;
    idle_ = true;
    const auto [error, bytes] =
        co_await connection_.read_some(buffer_.prepare(kPiece / 4), HttpClock::now() + options.idle_timeout);
    idle_ = false;
    if (error) co_return false;
    buffer_.commit(bytes);
  }

  Parser parser;
  parser.header_limit(options.head_bytes);
  parser.body_limit(boost::none);
  const boost::system::error_code head_error = co_await read(parser, false, HttpClock::now() + options.head_timeout);
  const bool too_long = head_error == http::error::header_limit || head_error == http::error::buffer_overflow;
  if (head_error && !too_long && !malformed(head_error)) co_return false;
  Ending ending(handler);
  HttpRecord& record = ending.record;
  record.peer = peer_;
  record.id = fmt::format("req_{:016x}", shared_.ids.next());
  if (too_long) {
    HttpAnswer answer =
        handler.refuse(431, fmt::format("the head of the request is longer than {} bytes", options.head_bytes));
    co_return co_await refuse(ending, std::move(answer), false);
  }
  if (head_error) {
    HttpAnswer answer = handler.refuse(400, "malformed HTTP request: " + head_error.message());
    co_return co_await refuse(ending, std::move(answer), false);
  }

  const auto& message = parser.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.peer = peer_;
  for (const auto& field : message) {
    request.headers.push_back({lower_case(std::string_view(field.name_string().data(), field.name_string().size())),
                               std::string(field.value().data(), field.value().size())});
  }
  const std::string_view asked_id = request.header("x-request-id");
  if (fit_for_id(asked_id)) record.id = asked_id;
  request.id = record.id;
  record.method = request.method;
  const bool http11 = message.version() >= 11;
  const bool has_body = !parser.is_done();
  const bool keep_alive = message.keep_alive() && !shared_.draining;
  if (!set_target(std::string_view(message.target().data(), message.target().size()), request)) {
    HttpAnswer answer = handler.refuse(400, "the target of the request is no path");
    co_return co_await refuse(ending, std::move(answer), false);
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
  if (admission.refusal) co_return co_await refuse(ending, *std::move(admission.refusal), keep_alive && !has_body);

  if (has_body) {
    if (lower_case(request.header("expect")) == "100-continue") {
      const bool going = co_await connection_.write("HTTP/1.1 100 Continue\r\n\r\n", options.write_timeout);
      if (!going) co_return false;
    }
    parser.body_limit(admission.body_bytes);
    const std::uint64_t expected = parser.content_length() ? *parser.content_length() : admission.body_bytes;
    const auto deadline =
        HttpClock::now() + options.body_timeout + std::min(kLongestBody, std::chrono::seconds(expected / kPiece));
    boost::system::error_code error;
    bool fits = true;
    try {
      error = co_await read(parser, true, deadline);
    } catch (const std::bad_alloc&) {
      fits = false;
    }
    if (!fits) {
      HttpAnswer answer = handler.refuse(503, "the server has no memory for the body of the request");
      co_return co_await refuse(ending, std::move(answer), false);
    }
    if (error == http::error::body_limit) co_return co_await refuse(ending, too_large(admission.body_bytes), false);
    if (malformed(error)) {
      HttpAnswer answer = handler.refuse(400, "malformed HTTP body: " + error.message());
      co_return co_await refuse(ending, std::move(answer), false);
    }
    if (error) co_return false;
    request.body = std::move(parser.get().body());
  }
  record.request_bytes = request.body.size();

  const std::weak_ptr<HttpSession> weak = weak_from_this();
  ending.exchange =
      std::make_shared<QueuedExchange>(std::move(request), options.stream_buffer, [&io = shared_.io, weak] {
        asio::post(io, [weak] {
          if (const auto woken = weak.lock()) woken->wake();
        });
      });
  current_ = ending.exchange;
  asio::post(shared_.workers, [&handler, exchange = ending.exchange] { answer(handler, exchange); });
  record.complete = co_await write_answer(*ending.exchange, keep_alive, http11, record);
  co_return record.complete&& keep_alive&& http11 && !shared_.draining;
}

// On a worker.
void HttpSession::answer(HttpHandler& handler, const std::shared_ptr<QueuedExchange>& exchange) {
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

asio::awaitable<bool> HttpSession::write_answer(QueuedExchange& exchange, bool keep_alive, bool http11,
                                                HttpRecord& record) {
  const bool silent = exchange.request().method == "HEAD";
  bool chunked = false;
  for (;;) {
    QueuedExchange::Taken taken = exchange.take();
    if (taken.given_up) co_return false;
    std::string text;  // goes out in one piece
    if (taken.head) {
      record.status = taken.head->status;
      chunked = taken.streamed && http11;
      const BodyLength length = chunked          ? BodyLength::chunked
                                : taken.streamed ? BodyLength::until_close
                                                 : BodyLength::known;
      text = head_text(*taken.head, record.id, length, keep_alive && http11 && !shared_.draining);
      if (!silent && taken.head->status != 204) {
        text += taken.head->body;
        record.answer_bytes += taken.head->body.size();
      }
    }
    if (!taken.pieces.empty() && !silent) {
      record.answer_bytes += taken.pieces.size();
      if (chunked) text += fmt::format("{:x}\r\n", taken.pieces.size());
      text += taken.pieces;
      if (chunked) text += "\r\n";
    }
    if (taken.last && chunked && !silent) text += "0\r\n\r\n";
    if (!co_await connection_.write(text, shared_.options.write_timeout)) co_return false;
    if (taken.last) co_return true;
    if (!text.empty()) continue;
    wake_.expires_after(kHangUpCheck);
    co_await wake_.async_wait(kTuple);
    if (connection_.hung_up()) co_return false;
  }
}

asio::awaitable<bool> HttpSession::refuse(Ending& ending, HttpAnswer answer, bool keep_alive) {
  HttpRecord& record = ending.record;
  record.status = answer.status;
  record.answer_bytes = answer.body.size();
  std::string text = head_text(answer, record.id, BodyLength::known, keep_alive);
  if (record.method != "HEAD") text += answer.body;
  record.complete = co_await connection_.write(text, shared_.options.write_timeout);
  ending.end();
  if (record.complete && !keep_alive) co_await connection_.discard();
  co_return record.complete&& keep_alive;
}

}  // namespace krait::server
