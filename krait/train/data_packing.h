// Packs documents into rows of T tokens so that few are cut and little is padding (Ding et al. 2024, "Fewer Truncations
// Improve Language Modeling": best-fit decreasing).
//
// A document longer than T becomes pieces of T and a rest; each shorter one, and each rest, goes into one row whole.
// They are placed from the longest to the shortest, each into the row that it fills best: the least space that is
// enough, the oldest such row of equals. The plan depends on the lengths alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace krait::train {

// Tokens begin … begin + length - 1 of a document.
struct PackedPiece {
  std::int64_t document = 0;
  std::int64_t begin = 0;
  std::int64_t length = 0;
  bool operator==(const PackedPiece&) const = default;
};

class Packing {
 public:
  // Documents of no tokens are in no row.
  Packing(std::span<const std::int64_t> document_lengths, std::int64_t row_length);

  std::int64_t row_length() const { return row_length_; }
  std::int64_t rows() const { return static_cast<std::int64_t>(row_begin_.size()) - 1; }
  std::span<const PackedPiece> row(std::int64_t index) const;
  std::int64_t tokens() const { return tokens_; }
  std::int64_t cut_documents() const { return cut_documents_; }  // that were longer than a row
  // Places that no token takes, and their share of all.
  std::int64_t padding() const { return rows() * row_length_ - tokens_; }
  double waste() const;

 private:
  std::int64_t row_length_;
  std::int64_t tokens_ = 0;
  std::int64_t cut_documents_ = 0;
  std::vector<PackedPiece> pieces_;      // of all rows
  std::vector<std::int64_t> row_begin_;  // in pieces_; rows() + 1 of them
};

}  // namespace krait::train
