#include "krait/train/data_packing.h"

#include <algorithm>
#include <deque>
#include <map>

#include "krait/core/check.h"

namespace krait::train {
namespace {

// A row for each piece. Rows that the pieces share are told by equal numbers from `rows`, which grows.
std::vector<std::int64_t> place_best_fit(std::span<const PackedPiece> pieces, std::int64_t row_length,
                                         std::int64_t& rows) {
  std::map<std::int64_t, std::deque<std::int64_t>> rows_with_space;
  std::vector<std::int64_t> row_of(pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::int64_t length = pieces[i].length;
    std::int64_t space = row_length;
    const auto best = rows_with_space.lower_bound(length);
    if (best == rows_with_space.end()) {
      row_of[i] = rows++;
    } else {
      space = best->first;
      row_of[i] = best->second.front();
      best->second.pop_front();
      if (best->second.empty()) rows_with_space.erase(best);
    }
    if (space > length) rows_with_space[space - length].push_back(row_of[i]);
  }
  return row_of;
}

}  // namespace

Packing::Packing(std::span<const std::int64_t> document_lengths, std::int64_t row_length) : row_length_(row_length) {
  KRAIT_CHECK(row_length >= 1, "rows of {} tokens", row_length);
  std::vector<PackedPiece> shorter;  // than a row
  for (std::size_t i = 0; i < document_lengths.size(); ++i) {
    const auto document = static_cast<std::int64_t>(i);
    const std::int64_t length = document_lengths[i];
    KRAIT_CHECK(length >= 0, "document {} has {} tokens", document, length);
    tokens_ += length;
    cut_documents_ += length > row_length ? 1 : 0;
    std::int64_t begin = 0;
    for (; length - begin >= row_length; begin += row_length) {
      row_begin_.push_back(static_cast<std::int64_t>(pieces_.size()));
      pieces_.push_back({document, begin, row_length});
    }
    if (begin < length) shorter.push_back({document, begin, length - begin});
  }
  std::ranges::stable_sort(shorter, std::ranges::greater(), &PackedPiece::length);

  std::int64_t rows = 0;
  const auto row_of = place_best_fit(shorter, row_length, rows);
  // Counting sort by row, which keeps the order within a row.
  const auto first_row = row_begin_.size();
  row_begin_.resize(first_row + static_cast<std::size_t>(rows) + 1, 0);
  const auto counts = std::span(row_begin_).subspan(first_row);
  for (const std::int64_t row : row_of) ++counts[static_cast<std::size_t>(row) + 1];
  counts[0] = static_cast<std::int64_t>(pieces_.size());
  for (std::size_t row = 1; row < counts.size(); ++row) counts[row] += counts[row - 1];
  std::vector<std::int64_t> next(counts.begin(), counts.end());
  pieces_.resize(pieces_.size() + shorter.size());
  for (std::size_t i = 0; i < shorter.size(); ++i) {
    pieces_[static_cast<std::size_t>(next[static_cast<std::size_t>(row_of[i])]++)] = shorter[i];
  }
}

std::span<const PackedPiece> Packing::row(std::int64_t index) const {
  KRAIT_CHECK(index >= 0 && index < rows(), "row {} of {}", index, rows());
  const auto first = static_cast<std::size_t>(row_begin_[static_cast<std::size_t>(index)]);
  const auto last = static_cast<std::size_t>(row_begin_[static_cast<std::size_t>(index) + 1]);
  return std::span(pieces_).subspan(first, last - first);
}

double Packing::waste() const {
  return rows() == 0 ? 0 : static_cast<double>(padding()) / static_cast<double>(rows() * row_length_);
}

}  // namespace krait::train
