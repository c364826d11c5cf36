// What all sequence mixers share: they map the rows of a batch to rows of the same width, and rows of different
// segments do not see each other.
#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <vector>

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// How the rows of a batch hang together.
struct Batch {
  Segments segments;
  // Of each segment, how many of its first rows are a prefix that is read in both directions; empty: none is.
  std::vector<std::int64_t> prefixes = {};
  // Whether the head reads in each row the mean over its segment, in place of the row itself (segment_means.h).
  bool pooled = false;
  // For layers that learn something beside the model's loss (hax_mixer.h): the share of their losses in the step, 0
  // where nothing is learned, and a number that another pass does not have, from which what they draw follows.
  double own_losses = 0.0;
  std::uint64_t pass = 0;
};

struct Mixer : torch::nn::Module {
  // x [M, D] -> [M, D]
  virtual Tensor forward(const Tensor& x, const Batch& batch) = 0;
};

}  // namespace krait::nn
