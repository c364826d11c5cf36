// Stands in for file_piece_queue_uring.cpp where krait is built without liburing.
#include "krait/train/file_piece_queue.h"

namespace krait::train {

std::unique_ptr<FilePieceQueue> open_uring_queue(std::size_t) { return nullptr; }

}  // namespace krait::train
