#include "krait/train/network_address.h"

#include <arpa/inet.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

// After sys/socket.h, which it builds on.
#include <ifaddrs.h>

namespace krait::train {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> look_up(const std::string& host, std::uint16_t port) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (error != 0) {
    return fail(ErrorCode::kNotFound, "[processes] host '{}' has no address here: {}", host, gai_strerror(error));
  }
  return Addresses(found, &freeaddrinfo);
}

std::string text_of(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* number = address->sa_family == AF_INET
                           ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
                           : static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  return inet_ntop(address->sa_family, number, text.data(), text.size()) == nullptr ? std::string() : text.data();
}

}  // namespace

Result<std::string> local_address_towards(const std::string& host, std::uint16_t port) {
  KRAIT_ASSIGN(const Addresses addresses, look_up(host, port));
  int last_error = 0;
  for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
    const int socket_of = socket(to->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage own{};
    socklen_t size = sizeof(own);
    // Of datagrams this only sets where they would go.
    const bool known = socket_of >= 0 && connect(socket_of, to->ai_addr, to->ai_addrlen) == 0 &&
                       getsockname(socket_of, reinterpret_cast<sockaddr*>(&own), &size) == 0;
    last_error = errno;
    if (socket_of >= 0) close(socket_of);
    if (known) return text_of(reinterpret_cast<const sockaddr*>(&own));
  }
  return fail(ErrorCode::kNotFound, "[processes] no way leads from here to {}: {}", host, std::strerror(last_error));
}

Result<std::string> address_of_host(const std::string& host) {
  KRAIT_ASSIGN(const Addresses addresses, look_up(host, 0));
  return text_of(addresses->ai_addr);
}

Result<std::string> interface_address(const std::string& name) {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return fail(ErrorCode::kInputOutput, "[processes] cannot list network interfaces: {}", std::strerror(errno));
  }
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> list(first, &freeifaddrs);
  std::vector<std::string> names;
  for (const ifaddrs* of = first; of != nullptr; of = of->ifa_next) {
    if (of->ifa_addr == nullptr || (of->ifa_addr->sa_family != AF_INET && of->ifa_addr->sa_family != AF_INET6))
      continue;
    if (of->ifa_name == name) return text_of(of->ifa_addr);
    if (names.empty() || names.back() != of->ifa_name) names.emplace_back(of->ifa_name);
  }
  return fail(ErrorCode::kNotFound, "[processes] there is no network interface '{}' with an address; there are: {}",
              name, fmt::join(names, ", "));
}

bool is_loopback(const std::string& address) { return address.starts_with("127.") || address == "::1"; }

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

std::string machine_identity() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string identity;
  return std::getline(file, identity) ? identity : host_name();
}

}  // namespace krait::train
