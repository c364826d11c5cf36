// One connection to a server that does not block: whoever drives it polls its descriptor and calls ready(). Plain HTTP.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/load/stream_reader.h"

namespace krait::load {

// Where a server is, of "http://host:port/prefix".
struct ServerAddress {
  std::string host;  // as it was given, for the header
  std::string prefix;
  sockaddr_storage address = {};
  socklen_t address_bytes = 0;
  int family = 0;
};
Result<ServerAddress> resolve(std::string_view url);

class ClientConnection {
 public:
  ClientConnection() = default;
  ~ClientConnection() { close(); }
  ClientConnection(ClientConnection&& other) noexcept;
  ClientConnection& operator=(ClientConnection&& other) noexcept;

  Result<void> open(const ServerAddress& server);
  void close();
  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

  void send(std::string request);
  bool wants_to_write() const { return connecting_ || sent_ < request_.size(); }
  // The descriptor is ready for what was wanted: writes, or reads into `reader`. `closed`: the server ended it.
  Result<void> ready(StreamReader& reader, bool& closed);

 private:
  int descriptor_ = -1;
  bool connecting_ = false;
  std::string request_;
  std::size_t sent_ = 0;
};

// "GET /metrics" and the like, blocking: the answer's status and body, or why there was none.
struct PlainAnswer {
  int status = 0;
  std::string body;
};
Result<PlainAnswer> ask(const ServerAddress& server, std::string_view request, double seconds);
// The bytes of a request; `key` may be empty.
std::string request_text(const ServerAddress& server, std::string_view method, std::string_view path,
                         std::string_view key, std::string_view body);

}  // namespace krait::load
