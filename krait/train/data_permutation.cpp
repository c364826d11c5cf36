#include "krait/train/data_permutation.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/train/random_stream.h"

namespace krait::train {

Permutation::Permutation(std::int64_t count, std::uint64_t seed, std::uint64_t epoch) : count_(count) {
  KRAIT_CHECK(count >= 0, "a permutation of {}", count);
  const auto size = static_cast<std::uint64_t>(count);
  left_size_ = static_cast<std::uint64_t>(std::ceil(std::sqrt(static_cast<double>(size))));
  if (left_size_ == 0) left_size_ = 1;
  right_size_ = (size + left_size_ - 1) / left_size_;
  Random random = random_stream(seed, {stream_name("permutation"), epoch});
  for (std::uint64_t& key : keys_) key = random.next();
}

std::int64_t Permutation::operator()(std::int64_t place) const {
  KRAIT_CHECK(place >= 0 && place < count_, "place {} of {}", place, count_);
  auto number = static_cast<std::uint64_t>(place);
  do {
    std::uint64_t left = number / right_size_;
    std::uint64_t right = number % right_size_;
    for (int round = 0; round < kRounds; round += 2) {
      left = (left + Random(keys_[static_cast<std::size_t>(round)] ^ right).next() % left_size_) % left_size_;
      right = (right + Random(keys_[static_cast<std::size_t>(round) + 1] ^ left).next() % right_size_) % right_size_;
    }
    number = left * right_size_ + right;
  } while (number >= static_cast<std::uint64_t>(count_));
  return static_cast<std::int64_t>(number);
}

}  // namespace krait::train
