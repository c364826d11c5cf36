// Where the states stand that a forward scan saves for its backward one: those at the start of each chunk of rows, of
// all sequences of a call one after the other.
#pragma once

#include <cstdint>

namespace krait::kernels {

inline std::int64_t saved_chunks(std::int64_t rows, std::int64_t chunk) { return (rows + chunk - 1) / chunk; }

// Of all sequences: those before sequence i are its first chunk.
template <class Sequences>
std::int64_t saved_chunks_of(const Sequences& sequences, std::int64_t chunk) {
  std::int64_t chunks = 0;
  for (const auto& sequence : sequences) chunks += saved_chunks(sequence.rows, chunk);
  return chunks;
}

}  // namespace krait::kernels
