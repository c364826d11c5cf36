// Where Gloo is not there: one process, and an error for more.
#include "krait/train/process_group.h"

#include "krait/core/check.h"

namespace krait::train {
namespace {

std::unexpected<Error> absent() {
  return fail(ErrorCode::kUnsupported,
              "[processes] this build trains in one process: more need Gloo (Debian: libgloo-dev) when krait is built");
}

}  // namespace

struct ProcessGroup::Parts {};
struct RendezvousStore::Parts {};

Result<std::unique_ptr<ProcessGroup>> ProcessGroup::join(const ProcessPlace&, const ProcessGroupOptions&) {
  return absent();
}
ProcessGroup::~ProcessGroup() = default;
std::int64_t ProcessGroup::rank() const { return 0; }
std::int64_t ProcessGroup::ranks() const { return 1; }
std::span<const Peer> ProcessGroup::peers() const { return {}; }
int ProcessGroup::threads() const { return 1; }
Result<void> ProcessGroup::sum(std::span<double>) { return absent(); }
Result<void> ProcessGroup::sum(std::span<const at::Tensor>) { return absent(); }
Result<void> ProcessGroup::broadcast(std::span<std::byte>) { return absent(); }
Result<void> ProcessGroup::broadcast(std::vector<std::byte>&) { return absent(); }
Result<void> ProcessGroup::check_alike(const std::string&, const Hash128&) { return absent(); }
Result<void> ProcessGroup::wait_for_all() { return absent(); }
void ProcessGroup::leave(const std::string&) {}

Result<std::unique_ptr<RendezvousStore>> RendezvousStore::serve() { return absent(); }
RendezvousStore::~RendezvousStore() = default;
std::uint16_t RendezvousStore::port() const { return 0; }

}  // namespace krait::train
