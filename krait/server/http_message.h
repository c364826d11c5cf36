// What an HTTP server hands to those who answer, without sockets and without Boost: a request, an answer, and the
// exchange of the two, which may be a stream of pieces.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace krait::server {

struct HttpHeader {
  std::string name;  // of requests: in lower case
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string path;   // percent-decoded, without the query
  std::string query;  // as it came
  std::vector<HttpHeader> headers;
  std::string body;
  std::string peer;  // address of the client
  std::string id;    // of the client's x-request-id, or made up
  std::string key;   // name of the API key it came with; empty without keys

  std::string_view header(std::string_view lower_case_name) const;  // empty: none
};

struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<HttpHeader> headers = {};
};

// One request and its answer. Thread-safe: an answer may come from any thread, piece by piece.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;

  // The whole answer. One of respond() and begin() is called, once.
  virtual void respond(HttpAnswer answer) = 0;

  // The beginning of an answer whose body follows in pieces until end().
  virtual void begin(HttpAnswer head) = 0;
  // False when the answer is over, the client is gone, or reads so slowly that the pieces waiting for it passed the
  // limit; then it is disconnected. Pieces are never dropped from the middle.
  virtual bool send(std::string_view piece) = 0;
  virtual void end() = 0;
  // Gives the connection up in the middle of an answer, so that the client sees that it is not whole.
  virtual void cut() = 0;

  // Called once when the client is gone before the answer was complete, at once when it is gone already. On any thread,
  // and perhaps with locks of the exchange's writer held: it must not call the exchange.
  virtual void on_gone(std::function<void()> act) = 0;

  // For the access log: what the answer was about, such as tokens.
  virtual void note(std::string_view name, std::string_view value) = 0;
};

// What became of an exchange.
struct HttpRecord {
  std::string id, method, path, peer, key;
  int status = 0;  // 0: the client was gone before an answer began
  std::uint64_t request_bytes = 0;
  std::uint64_t answer_bytes = 0;
  double seconds = 0;     // from the end of the request's head to the last byte of the answer
  bool admitted = false;  // the handler did not refuse its head
  bool complete = false;  // the whole answer went out
  std::vector<HttpHeader> notes;
};

// Percent-decoding; nothing for a broken escape or a byte 0.
std::optional<std::string> decode_percent(std::string_view text);
// The value of a name in a query string such as "a=1&b=2".
std::optional<std::string> query_value(std::string_view query, std::string_view name);
// "Not Found"
std::string_view reason_phrase(int status);

}  // namespace krait::server
