// The states of a batch's segments, one tensor [S, …] for all: segment i has the i-th. As kernels take them.
#pragma once

#include <ATen/Functions.h>

#include <span>
#include <vector>

#include "krait/kernels/rows.h"
#include "krait/kernels/sequence_gradients.h"
#include "krait/nn/segments.h"
#include "krait/nn/tensor_rows.h"

namespace krait::nn {

// Empty where `states` is undefined.
template <class Real>
std::span<Real> state_of(const Tensor& states, std::size_t segment) {
  if (!states.defined()) return {};
  const auto size = static_cast<std::size_t>(states.stride(0));
  return {states.data_ptr<Real>() + segment * size, size};
}

// For a kernel that computes in f32; without states where `states` is undefined.
inline std::vector<kernels::SequenceRows> sequences_of(const Segments& segments, const Tensor& states = {}) {
  std::vector<kernels::SequenceRows> sequences;
  sequences.reserve(segments.size());
  for (const Segment& segment : segments) {
    auto* state = reinterpret_cast<std::byte*>(state_of<float>(states, sequences.size()).data());
    sequences.push_back({.first_row = segment.first_row, .rows = segment.rows, .state = state});
  }
  return sequences;
}

// [M, C] for a kernel that writes the rows of the segments: rows of none are zero.
inline Tensor new_segment_rows(const Tensor& like, const Segments& segments, std::int64_t rows, std::int64_t columns) {
  Tensor result = new_rows(like, rows, columns);
  return cover(segments, rows) ? result : result.zero_();
}

// What flows back into the final states and is wanted of the initial ones; either may be undefined.
template <class Real>
std::vector<kernels::SequenceGradientsOf<Real>> state_gradients(const Segments& segments, const Tensor& d_final,
                                                                const Tensor& d_initial) {
  std::vector<kernels::SequenceGradientsOf<Real>> gradients;
  gradients.reserve(segments.size());
  for (std::size_t i = 0; i < segments.size(); ++i) {
    gradients.push_back(
        {.final_state = state_of<Real>(d_final, i).data(), .initial_state = state_of<Real>(d_initial, i).data()});
  }
  return gradients;
}

// The states that a kernel advances in place: a copy of the initial ones, or zeros of this shape.
inline Tensor states_to_advance(const Tensor& initial, at::IntArrayRef shape, const Tensor& like) {
  return initial.defined() ? initial.clone() : at::zeros(shape, like.options());
}

}  // namespace krait::nn
