// Under which address other machines reach this one, as far as its own interfaces and routes say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "krait/core/error.h"

namespace krait::train {

// The address that connections from here to `host` come from. Nothing is sent. kNotFound where the host has no
// address, or no route leads to it.
Result<std::string> local_address_towards(const std::string& host, std::uint16_t port);
// The address that a host's name stands for here, the first one of several.
Result<std::string> address_of_host(const std::string& host);

// Of a network interface by its name; kNotFound names those that there are.
Result<std::string> interface_address(const std::string& name);

bool is_loopback(const std::string& address);

std::string host_name();
// The same for all processes of a running system, another one elsewhere and after it is started again.
std::string machine_identity();

}  // namespace krait::train
