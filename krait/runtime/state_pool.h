// Memory for sequence states: bundles of one size, and pages for what grows with a sequence. Both stand in slabs, are
// zero when handed out, and are shared by copies of a state until one of them writes: then it copies the bundle, which
// every token overwrites, and of the pages only the last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krait/runtime/slab.h"

namespace krait::runtime {

class StatePool;

// One state. A copy shares everything. Must not outlive its pool.
class StateSlot {
 public:
  StateSlot() = default;

  explicit operator bool() const { return static_cast<bool>(bundle_); }
  const std::byte* bundle() const { return bundle_.data(); }
  std::span<std::byte* const> pages() const { return page_data_; }
  Ownership ownership() const { return bundle_.ownership(); }
  bool belongs_to(const StatePool& pool) const;

  // Makes the bundle this state's own, and all pages that tokens [position, position + count) go to, `tokens` to a
  // page. Throws ExhaustedError when the pool has no room; nothing that can be seen has changed then.
  std::byte* make_room(std::int64_t position, std::int64_t count, std::int64_t tokens);

 private:
  friend class StatePool;
  Block bundle_;
  Slab* page_slab_ = nullptr;
  std::vector<Block> pages_;
  std::vector<std::byte*> page_data_;  // of pages_; only those of an exclusive page are written through
};

// Thread-safe.
class StatePool {
 public:
  // page_bytes 0: states do not grow. `memory`: how many bytes states may take. Without pages all of it goes to
  // bundles; with them, bundles and pages may each take it, whichever sequences need.
  StatePool(std::uint64_t bytes_per_state, std::uint64_t page_bytes, std::uint64_t memory);

  std::uint64_t bytes_per_state() const { return bundles_.block_bytes(); }
  std::uint64_t page_bytes() const { return pages_.block_bytes(); }
  // How many states fit; those of sequences that grow fit only while they are short.
  std::uint64_t capacity() const { return bundles_.capacity(); }
  std::uint64_t states_in_use() const { return bundles_.in_use(); }
  std::uint64_t pages_in_use() const { return pages_.in_use(); }
  std::uint64_t touched_bytes() const { return bundles_.touched_bytes() + pages_.touched_bytes(); }

  StateSlot acquire();  // the state before the first token

 private:
  friend class StateSlot;
  Slab bundles_;
  Slab pages_;
};

}  // namespace krait::runtime
