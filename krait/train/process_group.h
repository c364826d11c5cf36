// The processes that train together, over c10d's store and Gloo: who is there, sums over all, what rank 0 tells the
// others, and what became of a rank that is missed.
//
// Every operation is called by all ranks in the same order. For a number of ranks the order of additions is fixed, so
// sums are the same on all ranks and in every run. An operation in which a rank is missed fails, within the timeout, on
// all; afterwards every one fails.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"
#include "krait/train/launcher_environment.h"

namespace at {
class Tensor;
}

namespace krait::train {

struct ProcessGroupOptions {
  std::chrono::milliseconds timeout = std::chrono::minutes(5);  // for another rank, before it counts as gone
  // What has to be the same on all ranks, for the error where it is not: "the configuration", and its hash.
  std::vector<std::pair<std::string, std::string>> alike = {};
};

struct Peer {
  std::int64_t rank = 0;
  std::string host = {}, machine = {}, address = {};
  std::int64_t process = 0;
  std::vector<int> cores = {};  // that it may use

  std::string text() const;  // "rank 2 (process 4711 on tower, 10.0.0.2)"
};

class ProcessGroup {
 public:
  // Waits until all ranks are there.
  static Result<std::unique_ptr<ProcessGroup>> join(const ProcessPlace& place, const ProcessGroupOptions& options);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  std::int64_t rank() const;
  std::int64_t ranks() const;
  bool is_first() const { return rank() == 0; }
  std::span<const Peer> peers() const;  // by rank, this one too
  // This rank's share of the cores that it may use, with the ranks that use them too; at least 1.
  int threads() const;

  // Each element becomes the sum over all ranks.
  Result<void> sum(std::span<double> values);
  // The same of float32 tensors without gaps, in buckets of which several are under way at a time.
  Result<void> sum(std::span<const at::Tensor> tensors);
  // The bytes of rank 0 to all.
  Result<void> broadcast(std::span<std::byte> bytes);
  // Of any length; what the others had is replaced.
  Result<void> broadcast(std::vector<std::byte>& bytes);
  // An error names the ranks that have another value than rank 0 has.
  Result<void> check_alike(const std::string& what, const Hash128& value);
  // Returns when all have come here.
  Result<void> wait_for_all();

  // Ends the work with the others after an error here, and tells them of it. Theirs fails at once.
  void leave(const std::string& reason);

 private:
  struct Parts;
  explicit ProcessGroup(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// The store where the processes that a launcher starts on this machine find one another (local_processes.h).
class RendezvousStore {
 public:
  static Result<std::unique_ptr<RendezvousStore>> serve();
  ~RendezvousStore();
  std::uint16_t port() const;

 private:
  struct Parts;
  explicit RendezvousStore(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// The share of its cores that rank `rank` has, where others on the same machine may use them too.
int share_of_cores(std::span<const Peer> peers, std::int64_t rank);

}  // namespace krait::train
