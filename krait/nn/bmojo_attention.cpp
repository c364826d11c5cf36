#include "krait/nn/bmojo_attention.h"

#include <ATen/Functions.h>

#include "krait/kernels/eidetic_store.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {

std::vector<std::vector<kernels::ChosenToken>> eidetic_choice(const Tensor& predicted, const Tensor& actual,
                                                              std::int64_t size, std::int64_t window,
                                                              const Segments& segments) {
  check_real(actual, "the values of tokens");
  check_same_type(predicted, actual, "the values of a recurrence");
  check_shape(predicted, actual.sizes(), "the values of a recurrence");
  if (size < 1 || window < 1) {
    throw UserError(fmt::format("a store of {} tokens beside a window of {}", size, window), "both are at least 1");
  }
  // Only the order of innovations counts: f32 for either type.
  const Tensor f = as_rows(predicted.detach().to(at::kFloat)), v = as_rows(actual.detach().to(at::kFloat));
  check_segments(segments, v.size(0));
  const Tensor before = at::zeros({static_cast<std::int64_t>(segments.size()), v.size(1)}, v.options());
  const Tensor innovations = at::zeros({v.size(0), 1}, v.options());
  const auto sequences = sequences_of(segments, before);
  const ComputePool pool;
  kernels::innovations(pool, rows_in<float>(f), rows_in<float>(v), sequences, rows_out<float>(innovations));
  return kernels::eidetic_lifetimes(pool, size, window, rows_in<float>(innovations), sequences);
}

Tensor bmojo_attention(const BmojoAttention& attention, const BmojoRows& near, const BmojoRows& far,
                       const Segments& segments) {
  const std::int64_t window = attention.window;
  if (window < 1) throw UserError(fmt::format("B'MOJO with a window of {}", window), "it is at least 1");
  std::vector<AttentionSource> sources = {{.q = near.q, .k = near.k, .v = near.v, .window = window},
                                          {.q = far.q, .k = far.k, .v = far.v, .window = window, .delay = window}};
  if (attention.eidetic > 0 && !segments.empty()) {
    sources.push_back({.q = near.q, .k = near.k, .v = near.v});
    sources.back().chosen = eidetic_choice(far.v, near.v, attention.eidetic, window, segments);
  }
  return sequence_attention(attention.heads, sources, segments);
}

}  // namespace krait::nn
