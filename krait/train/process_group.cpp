#include "krait/train/process_group.h"

#include <ATen/Functions.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cstring>

#include "krait/core/check.h"
#include "krait/core/cores.h"
#include "krait/train/network_address.h"
#include "krait/train/peer_watch.h"
#include "krait/train/rank_introduction.h"

namespace krait::train {
namespace {

using StorePointer = c10::intrusive_ptr<c10d::Store>;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

constexpr std::int64_t kBucket = std::int64_t{1} << 20;  // floats
constexpr std::size_t kUnderWay = 4;                     // buckets
constexpr std::int64_t kPiece = std::int64_t{1} << 24;   // bytes of a broadcast

class Gloo final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  // What is under way fails, here and at the other ends.
  void break_off() {
    for (const auto& context : contexts_) context->closeConnections();
  }
};

std::vector<std::string> chosen_interfaces() {
  std::vector<std::string> names;
  std::string left = process_environment()("GLOO_SOCKET_IFNAME").value_or("");
  while (!left.empty()) {
    const std::size_t comma = std::min(left.find(','), left.size());
    names.push_back(left.substr(0, comma));
    left.erase(0, comma + 1);
  }
  return names;
}

Result<StorePointer> open_store(const ProcessPlace& place, bool serves, std::chrono::milliseconds timeout) {
  try {
    c10d::TCPStoreOptions options;
    options.port = place.port;
    options.isServer = serves;
    options.waitWorkers = false;
    options.timeout = timeout;
    return c10::make_intrusive<c10d::PrefixStore>(fmt::format("krait/{}", place.attempt),
                                                  c10::make_intrusive<c10d::TCPStore>(place.address, options));
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInputOutput, "[processes] rank {} of {} {} {}:{}: {}", place.rank, place.ranks,
                serves ? "cannot serve the store where the ranks meet at"
                       : "finds no store where the ranks meet, which rank 0 or the launcher serves, at",
                place.address, place.port, first_line(error));
  }
}

at::Tensor bytes_tensor(std::byte* data, std::int64_t size) { return at::from_blob(data, {size}, at::kByte); }

}  // namespace

struct ProcessGroup::Parts {
  ProcessPlace place;
  ProcessGroupOptions options;
  std::vector<Peer> peers;
  StorePointer store;  // outlives those below
  std::unique_ptr<PeerWatch> watch;
  c10::intrusive_ptr<Gloo> gloo;
  std::vector<at::Tensor> buckets;
  std::string broken;  // why nothing is done any more

  // Runs what throws where a rank is missed.
  template <class Work>
  Result<void> together(const char* what, Work&& work);
  void wait(const WorkPointer& work) { work->wait(options.timeout); }
};

template <class Work>
Result<void> ProcessGroup::Parts::together(const char* what, Work&& work) {
  if (!broken.empty()) return fail(ErrorCode::kInputOutput, "{}", broken);
  try {
    work();
    return {};
  } catch (const std::exception& error) {
    gloo->break_off();
    broken = fmt::format("[processes] rank {} of {} could not {}: {} ({})", place.rank, place.ranks, what,
                         watch->explain(), first_line(error));
    watch->say_leaving(broken, false);
    return fail(ErrorCode::kInputOutput, "{}", broken);
  }
}

Result<std::unique_ptr<ProcessGroup>> ProcessGroup::join(const ProcessPlace& place,
                                                         const ProcessGroupOptions& options) {
  auto parts = std::make_unique<Parts>();
  parts->place = place;
  parts->options = options;
  const std::vector<std::string> interfaces = chosen_interfaces();
  Introduction own;
  own.peer = {.rank = place.rank, .host = host_name(), .machine = machine_identity(), .process = getpid()};
  own.peer.cores = usable_cores();
  own.alike = options.alike;
  for (const std::string& name : interfaces) {
    KRAIT_ASSIGN(own.peer.address, interface_address(name));
  }
  if (interfaces.empty()) {
    KRAIT_ASSIGN(own.peer.address, local_address_towards(place.address, place.port));
  }
  KRAIT_ASSIGN(own.first_seen_as, address_of_host(place.address));
  const bool serves = place.rank == 0 && !place.store_is_served;
  KRAIT_ASSIGN(parts->store, open_store(place, serves, options.timeout));
  KRAIT_ASSIGN(std::vector<Introduction> all, meet(*parts->store, place, own, options.timeout));
  KRAIT_TRY(check_introductions(all));
  if (interfaces.empty()) {
    KRAIT_ASSIGN(own.peer.address, address_to_serve(all, place.rank));
  }
  for (Introduction& of : all) parts->peers.push_back(std::move(of.peer));
  KRAIT_ASSIGN(StorePointer for_watch, open_store(place, false, options.timeout));
  parts->watch = std::make_unique<PeerWatch>(std::move(for_watch), parts->peers, place.rank, serves);
  try {
    auto gloo_options = c10d::ProcessGroupGloo::Options::create(options.timeout);
    for (const std::string& name : interfaces) {
      gloo_options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
    }
    if (interfaces.empty()) {
      gloo_options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(own.peer.address));
    }
    gloo_options->threads = static_cast<int>(2 * gloo_options->devices.size());
    parts->gloo = c10::make_intrusive<Gloo>(parts->store, static_cast<int>(place.rank), static_cast<int>(place.ranks),
                                            gloo_options);
  } catch (const std::exception& error) {
    std::vector<std::string> others;
    for (const Peer& peer : parts->peers) {
      if (peer.rank != place.rank) others.push_back(peer.text());
    }
    const std::string reason =
        fmt::format("[processes] rank {} of {}, listening on {}, could not connect to {}: {}", place.rank, place.ranks,
                    own.peer.address, fmt::join(others, ", "), first_line(error));
    parts->watch->say_leaving(reason, true);
    return fail(ErrorCode::kInputOutput, "{}", reason);
  }
  return std::unique_ptr<ProcessGroup>(new ProcessGroup(std::move(parts)));
}

ProcessGroup::ProcessGroup(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
ProcessGroup::~ProcessGroup() = default;
std::int64_t ProcessGroup::rank() const { return parts_->place.rank; }
std::int64_t ProcessGroup::ranks() const { return parts_->place.ranks; }
std::span<const Peer> ProcessGroup::peers() const { return parts_->peers; }
int ProcessGroup::threads() const { return share_of_cores(parts_->peers, rank()); }

Result<void> ProcessGroup::sum(std::span<double> values) {
  return parts_->together("add up numbers", [&] {
    std::vector<at::Tensor> tensors = {
        at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())}, at::kDouble)};
    parts_->wait(parts_->gloo->allreduce(tensors));
  });
}

Result<void> ProcessGroup::sum(std::span<const at::Tensor> tensors) {
  std::vector<std::span<float>> left;
  std::int64_t count = 0;
  for (const at::Tensor& tensor : tensors) {
    KRAIT_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous(), "sums are of f32 without gaps");
    if (tensor.numel() == 0) continue;
    left.emplace_back(tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel()));
    count += tensor.numel();
  }
  // Copies the next floats of the tensors into a bucket, or a bucket into them.
  struct Place {
    std::size_t tensor = 0, offset = 0;
  };
  const auto pass = [&](Place& place, const at::Tensor& bucket, bool out) {
    float* with = bucket.data_ptr<float>();
    auto wanted = static_cast<std::size_t>(bucket.numel());
    while (wanted > 0) {
      const std::span<float> of = left[place.tensor].subspan(place.offset);
      const std::size_t run = std::min(wanted, of.size());
      std::memcpy(out ? with : of.data(), out ? of.data() : with, run * sizeof(float));
      with += run;
      wanted -= run;
      place = run == of.size() ? Place{place.tensor + 1, 0} : Place{place.tensor, place.offset + run};
    }
  };
  Parts& of = *parts_;
  const std::int64_t buckets = (count + kBucket - 1) / kBucket;
  const auto size = [&](std::int64_t bucket) { return std::min(kBucket, count - bucket * kBucket); };
  return of.together("add up gradients", [&] {
    struct UnderWay {
      std::vector<at::Tensor> bucket;
      WorkPointer work;
    };
    std::vector<UnderWay> ring(kUnderWay);
    Place read, write;
    const auto finish = [&](UnderWay& one) {
      if (one.work == nullptr) return;
      of.wait(one.work);
      one.work.reset();
      pass(write, one.bucket.front(), false);
    };
    for (std::int64_t i = 0; i < buckets; ++i) {
      const std::size_t slot = static_cast<std::size_t>(i) % kUnderWay;
      finish(ring[slot]);
      if (of.buckets.size() <= slot) of.buckets.push_back(at::empty({std::min(count, kBucket)}, at::kFloat));
      if (of.buckets[slot].numel() < size(i)) of.buckets[slot] = at::empty({size(i)}, at::kFloat);
      ring[slot].bucket = {of.buckets[slot].narrow(0, 0, size(i))};
      pass(read, ring[slot].bucket.front(), true);
      ring[slot].work = of.gloo->allreduce(ring[slot].bucket);
    }
    for (std::int64_t i = buckets; i < buckets + std::ssize(ring); ++i) {
      finish(ring[static_cast<std::size_t>(i) % kUnderWay]);
    }
  });
}

Result<void> ProcessGroup::broadcast(std::span<std::byte> bytes) {
  return parts_->together("send what rank 0 has", [&] {
    const auto size = static_cast<std::int64_t>(bytes.size());
    for (std::int64_t done = 0; done < size; done += kPiece) {
      std::vector<at::Tensor> tensors = {bytes_tensor(bytes.data() + done, std::min(kPiece, size - done))};
      parts_->wait(parts_->gloo->broadcast(tensors));
    }
  });
}

Result<void> ProcessGroup::broadcast(std::vector<std::byte>& bytes) {
  std::uint64_t size = bytes.size();
  KRAIT_TRY(broadcast(std::as_writable_bytes(std::span(&size, 1))));
  bytes.resize(size);
  return broadcast(std::span(bytes));
}

Result<void> ProcessGroup::check_alike(const std::string& what, const Hash128& value) {
  // Each rank has its own places of a row of zeros; 32 bits are whole numbers in double.
  constexpr std::size_t kParts = 4;
  std::vector<double> all(kParts * static_cast<std::size_t>(ranks()));
  const std::array<std::uint64_t, kParts> own = {value.high >> 32U, value.high & 0xffffffffU, value.low >> 32U,
                                                 value.low & 0xffffffffU};
  const auto mine = std::span(all).subspan(kParts * static_cast<std::size_t>(rank()), kParts);
  std::ranges::transform(own, mine.begin(), [](std::uint64_t part) { return static_cast<double>(part); });
  KRAIT_TRY(sum(all));
  std::vector<std::string> other;
  for (const Peer& peer : peers()) {
    const auto theirs = std::span(all).subspan(kParts * static_cast<std::size_t>(peer.rank), kParts);
    if (!std::ranges::equal(theirs, std::span(all).first(kParts))) other.push_back(peer.text());
  }
  if (other.empty()) return {};
  return fail(ErrorCode::kInvalidArgument, "[processes] {} of {} are not those of rank 0", what,
              fmt::join(other, ", "));
}

Result<void> ProcessGroup::wait_for_all() {
  return parts_->together("wait for all", [&] { parts_->wait(parts_->gloo->barrier()); });
}

void ProcessGroup::leave(const std::string& reason) {
  // Those who miss another one have said so.
  if (!parts_->broken.empty()) return;
  parts_->broken = reason;
  parts_->gloo->break_off();
  parts_->watch->say_leaving(reason, true);
}

struct RendezvousStore::Parts {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

Result<std::unique_ptr<RendezvousStore>> RendezvousStore::serve() {
  try {
    c10d::TCPStoreOptions options;
    options.port = 0;
    options.isServer = true;
    options.waitWorkers = false;
    return std::unique_ptr<RendezvousStore>(
        new RendezvousStore(std::make_unique<Parts>(Parts{c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options)})));
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInputOutput, "[processes] cannot serve a store on this machine: {}", first_line(error));
  }
}

RendezvousStore::RendezvousStore(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
RendezvousStore::~RendezvousStore() = default;
std::uint16_t RendezvousStore::port() const { return parts_->store->getPort(); }

}  // namespace krait::train
