// The order in which an epoch visits its rows: a permutation of 0 … count-1 that is computed instead of stored, so that
// a place in an epoch is one number and an epoch of any size takes no memory.
//
// A Feistel network (Luby and Rackoff 1988) over pairs (left < a, right < b) with a * b >= count: each round adds a
// keyed hash of one half to the other, modulo the other's size, which can be undone and so is a permutation. Results
// that are not below count go round again (cycle walking, Black and Rogaway 2002); a * b exceeds count by less than a,
// so that hardly ever happens.
#pragma once

#include <array>
#include <cstdint>

namespace krait::train {

class Permutation {
 public:
  Permutation(std::int64_t count, std::uint64_t seed, std::uint64_t epoch);

  std::int64_t count() const { return count_; }
  std::int64_t operator()(std::int64_t place) const;  // 0 <= place < count

 private:
  static constexpr int kRounds = 8;
  std::int64_t count_;
  std::uint64_t left_size_;   // a, the square root of count rounded up
  std::uint64_t right_size_;  // b
  std::array<std::uint64_t, kRounds> keys_;
};

}  // namespace krait::train
