// HTTP/1.1 on a TCP port: keep-alive, limits, time-outs, and a drain in order. Which answer a request gets is the
// handler's business (http_message.h).
//
// One thread moves bytes; `workers` threads run the handler, so that parsing one large request does not hold up the
// streams of others. What waits for a slow reader is bounded: by `stream_buffer` in the process, and by a socket buffer
// of the same size in the kernel.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "krait/core/error.h"
#include "krait/server/http_message.h"

namespace krait::server {

struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;    // 0: any that is free
  std::string tls_certificate;  // files in PEM: the chain and its private key; empty: in the clear
  std::string tls_key;
  int workers = 2;
  std::int64_t connections = 1024;
  std::uint32_t head_bytes = 32 << 10;
  std::uint64_t stream_buffer = 256 << 10;
  std::chrono::milliseconds idle_timeout{75'000};   // between requests of a connection
  std::chrono::milliseconds head_timeout{10'000};   // for the head of a request
  std::chrono::milliseconds body_timeout{30'000};   // for its body, and a second more for every 64 KiB of it
  std::chrono::milliseconds write_timeout{30'000};  // without a byte taken by the reader
  std::chrono::milliseconds drain_timeout{60'000};  // of SIGTERM, after which streams are cut
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;

  struct Admission {
    std::optional<HttpAnswer> refusal = {};
    std::uint64_t body_bytes = 0;  // most bytes of a body
  };
  // Judges the head before the body is read, and may fill in `head.key`. On the thread that moves bytes: be quick.
  virtual Admission admit(HttpRequest& head) = 0;
  // The answer to a body that passed the limit, to a malformed head, to a time-out, or to an exception of handle().
  virtual HttpAnswer refuse(int status, const std::string& message) = 0;
  // Answers, now or later. On a worker.
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
  // Called once for every request whose head was admitted or refused.
  virtual void finished(const HttpRecord& record) = 0;
};

class HttpServer {
 public:
  // `handler` outlives the server.
  HttpServer(HttpOptions options, HttpHandler& handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  Result<void> listen();
  std::uint16_t port() const;  // after listen()

  // Serves until it is drained. SIGTERM and SIGINT begin that: no new connections, no further requests on those there
  // are, but their answers to the end. A second signal cuts them.
  void run();
  void drain();  // the same from any thread
  bool draining() const;
  std::int64_t open_connections() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace krait::server
