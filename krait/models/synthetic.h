// Checkpoints made up in memory: the published shapes with random weights for benchmarks, tiny ones for tests. The
// weights follow the papers' initialisation, so activations and decays have realistic sizes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"

namespace krait::models {

struct SyntheticShape {
  std::string_view name;          // "mamba2-130m"
  std::string_view architecture;  // "mamba", "falcon_mamba", "mamba2", "mamba3" or "rwkv7"
  std::int64_t layers = 0;
  std::int64_t width = 0;        // D; the inner width is 2 D (RWKV-7: D)
  std::int64_t vocabulary = 0;   // V
  std::int64_t states = 16;      // N
  std::int64_t head_width = 64;  // P, not of Mamba-1
  std::int64_t groups = 1;       // G, not of Mamba-1
  std::int64_t rank = 0;         // R, Mamba-3's MIMO only
  // Instead of all that: a whole configuration, as transformers writes it.
  std::string_view config = {};
};

// The shapes that synthetic_shape() knows: published ones, and for Mamba-3, which has none, Mamba-2's.
std::span<const SyntheticShape> synthetic_shapes();
// kInvalidArgument lists the names.
Result<SyntheticShape> synthetic_shape(std::string_view name);

// A checkpoint in transformers' naming with the head tied to the embedding, Mamba-3's and RWKV-7's in those of their
// authors; matrices of `dtype` (f32, bf16 or f16). Matrices are drawn when they are read, so the checkpoint itself
// takes hardly any memory.
std::unique_ptr<formats::WeightSource> make_synthetic(const SyntheticShape& shape, DType dtype, std::uint64_t seed);

}  // namespace krait::models
