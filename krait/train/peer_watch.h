// What became of a rank that is missed. Gloo's errors say that a connection broke, or that time is up, and not whose
// fault it is: a rank that gives up because another is gone breaks connections too. So each rank counts up a number in
// the store as long as it lives, and says there why it leaves.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <span>
#include <string>

#include "krait/train/process_group.h"

namespace c10d {
class Store;
}

namespace krait::train {

class PeerWatch {
 public:
  // `store` is used by the watch's own thread alone. `serves`: the store ends with this process.
  PeerWatch(c10::intrusive_ptr<c10d::Store> store, std::vector<Peer> peers, std::int64_t rank, bool serves);
  ~PeerWatch();
  PeerWatch(const PeerWatch&) = delete;
  PeerWatch& operator=(const PeerWatch&) = delete;

  // "rank 2 (process 4711 on tower, 10.0.0.2) is gone: …". Takes some seconds.
  std::string explain();
  // `is_own`: for a reason of its own, and not because another rank was missed. Who serves the store stays for a
  // moment, so that the others can read it.
  void say_leaving(const std::string& reason, bool is_own);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace krait::train
