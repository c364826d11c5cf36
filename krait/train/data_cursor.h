// Where in the data a run stands: a few whole numbers, which a checkpoint keeps and from which the run sees exactly the
// batches it would have seen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/hash.h"

namespace krait::train {

struct DataCursor {
  // How often a source has been read, and how many rows of it in the epoch that is going on.
  struct Place {
    std::uint64_t epoch = 0;
    std::uint64_t position = 0;
    bool operator==(const Place&) const = default;
  };

  Hash128 data;               // what it is a place in: the data and all that decides their order
  std::uint64_t rows = 0;     // read so far, of all sources
  std::uint64_t tokens = 0;   // in them, without padding
  std::vector<Place> places;  // of each source

  std::vector<std::uint64_t> numbers() const;
  // kCorrupt when these are no cursor.
  static Result<DataCursor> from_numbers(std::span<const std::uint64_t> numbers);
  bool operator==(const DataCursor&) const = default;
};

}  // namespace krait::train
