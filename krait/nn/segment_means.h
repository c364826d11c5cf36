// What a model answers from that is asked one thing about a whole sequence: the mean over its places.
#pragma once

#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// x [M, C] -> [M, C], each row the mean over the rows of its segment; rows of no segment are 0.
Tensor segment_means(const Tensor& x, const Segments& segments);

}  // namespace krait::nn
