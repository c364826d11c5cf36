// Streams of random numbers that are named instead of kept: what is drawn for example 7 of task "parity" under seed 3
// is told by these names alone, so that any example can be made at any time, by any thread, and a run that is resumed
// sees what it would have seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "krait/core/check.h"
#include "krait/core/random.h"

namespace krait::train {

// The stream of `seed` under `names`. Streams of different names have nothing to do with each other.
inline Random random_stream(std::uint64_t seed, std::initializer_list<std::uint64_t> names) {
  std::uint64_t state = Random(seed).next();
  // Each name passes the generator's finaliser before the next is added, so that (1, 2) and (2, 1) differ.
  for (const std::uint64_t name : names) state = Random(state ^ name).next();
  return Random(state);
}

// FNV-1a: a word as a name.
constexpr std::uint64_t stream_name(std::string_view word) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : word) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

// Uniform in [0, count), count >= 1. Draws in the incomplete last stretch of 2^64 are thrown away, so that no remainder
// is likelier than another.
inline std::uint64_t below(Random& random, std::uint64_t count) {
  KRAIT_CHECK(count > 0, "a number below {}", count);
  const std::uint64_t incomplete = (0 - count) % count;  // 2^64 mod count
  std::uint64_t drawn = random.next();
  while (drawn < incomplete) drawn = random.next();
  return drawn % count;
}

// Uniform in [low, high].
inline std::int64_t between(Random& random, std::int64_t low, std::int64_t high) {
  KRAIT_CHECK(low <= high, "a number from {} to {}", low, high);
  return low + static_cast<std::int64_t>(below(random, static_cast<std::uint64_t>(high - low) + 1));
}

// Fisher and Yates: the first `count` places hold a uniform choice without repetition, in uniform order.
template <class T>
void shuffle_first(Random& random, std::span<T> items, std::size_t count) {
  for (std::size_t i = 0; i < count && i + 1 < items.size(); ++i) {
    std::swap(items[i], items[i + below(random, items.size() - i)]);
  }
}

template <class T>
void shuffle(Random& random, std::span<T> items) {
  shuffle_first(random, items, items.size());
}

// `count` different numbers below `bound`, in uniform order (Floyd's sampling: Bentley and Floyd 1987).
inline std::vector<std::int64_t> distinct_below(Random& random, std::int64_t bound, std::int64_t count) {
  KRAIT_CHECK(count <= bound, "{} different numbers below {}", count, bound);
  std::unordered_set<std::int64_t> chosen;
  std::vector<std::int64_t> numbers;
  for (std::int64_t last = bound - count; last < bound; ++last) {
    const std::int64_t drawn = between(random, 0, last);
    numbers.push_back(chosen.insert(drawn).second ? drawn : last);
    chosen.insert(numbers.back());
  }
  shuffle(random, std::span(numbers));
  return numbers;
}

}  // namespace krait::train
