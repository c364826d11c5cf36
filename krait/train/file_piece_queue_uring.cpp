// The queue over io_uring ("Efficient IO with io_uring", Axboe 2019): no threads of ours, one system call a piece.
#include <liburing.h>

#include <cerrno>

#include "krait/core/check.h"
#include "krait/train/file_piece_queue.h"

namespace krait::train {
namespace {

class UringQueue final : public FilePieceQueue {
 public:
  static std::unique_ptr<FilePieceQueue> open(std::size_t depth) {
    std::unique_ptr<UringQueue> queue(new UringQueue);
    // EPERM, ENOSYS: forbidden or unknown. ENOMEM: the memory limit of kernels before 5.12.
    if (::io_uring_queue_init(static_cast<unsigned>(depth), &queue->ring_, 0) != 0) return nullptr;
    queue->is_open_ = true;
    // Kernels before 5.6 have rings and cannot do this with them.
    io_uring_probe* probe = ::io_uring_get_probe_ring(&queue->ring_);
    if (probe == nullptr) return nullptr;
    const bool able = ::io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                      ::io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0;
    ::io_uring_free_probe(probe);
    if (!able) return nullptr;
    return queue;
  }

  ~UringQueue() override {
    if (is_open_) ::io_uring_queue_exit(&ring_);
  }

  std::string_view name() const override { return "io_uring"; }

  void submit(std::size_t slot, const FilePiece& piece) override {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    KRAIT_CHECK(entry != nullptr, "the ring has no place for slot {}", slot);
    const auto bytes = static_cast<unsigned>(piece.bytes);
    if (piece.writes) {
      ::io_uring_prep_write(entry, piece.descriptor, piece.data, bytes, piece.offset);
    } else {
      ::io_uring_prep_read(entry, piece.descriptor, piece.data, bytes, piece.offset);
    }
    ::io_uring_sqe_set_data64(entry, slot);
    int submitted = 0;
    do {
      submitted = ::io_uring_submit(&ring_);
    } while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
    KRAIT_CHECK(submitted == 1, "the ring took {} entries instead of one", submitted);
  }

  bool next(FinishedPiece& finished, bool block) override {
    io_uring_cqe* entry = nullptr;
    int status = 0;
    do {
      status = block ? ::io_uring_wait_cqe(&ring_, &entry) : ::io_uring_peek_cqe(&ring_, &entry);
    } while (status == -EINTR);
    if (status == -EAGAIN && !block) return false;
    KRAIT_CHECK(status == 0, "waiting for the ring: error {}", -status);
    finished = {::io_uring_cqe_get_data64(entry), entry->res};
    ::io_uring_cqe_seen(&ring_, entry);
    return true;
  }

 private:
  UringQueue() = default;
  io_uring ring_{};
  bool is_open_ = false;
};

}  // namespace

std::unique_ptr<FilePieceQueue> open_uring_queue(std::size_t depth) { return UringQueue::open(depth); }

}  // namespace krait::train
