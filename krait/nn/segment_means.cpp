#include "krait/nn/segment_means.h"

#include <ATen/Functions.h>

#include <algorithm>

namespace krait::nn {

Tensor segment_means(const Tensor& x, const Segments& segments) {
  check_segments(segments, x.size(0));
  const auto count = static_cast<std::int64_t>(segments.size());
  // One more than there are: that of the rows of none, whose mean counts as nothing.
  const Tensor segment_of = at::full({x.size(0)}, count, at::kLong);
  const Tensor share = at::zeros({count + 1, 1}, x.options().requires_grad(false));
  for (std::int64_t i = 0; i < count; ++i) {
    const Segment& segment = segments[static_cast<std::size_t>(i)];
    std::fill_n(segment_of.data_ptr<std::int64_t>() + segment.first_row, segment.rows, i);
    if (segment.rows > 0) share[i].fill_(1.0 / static_cast<double>(segment.rows));
  }
  const Tensor sums = at::zeros({count + 1, x.size(1)}, x.options().requires_grad(false)).index_add(0, segment_of, x);
  return at::mul(sums, share).index_select(0, segment_of);
}

}  // namespace krait::nn
