// The two forms of S4's output row: C of the model stepped, and C~ = C (1 - Abar^L) of its kernel of length L
// (s4_kernel.h). Training begins by making C~ once; stepping a trained model needs C back. Dense matrices in double,
// N^3 log L a channel: for once, not for every step.
#pragma once

#include <complex>
#include <vector>

#include "krait/kernels/s4_kernel.h"

namespace krait::kernels {

// A channel's model over all N = 2 M states, the conjugates after those kept.
struct S4Matrices {
  std::vector<std::complex<double>> step;   // Abar [N, N]
  std::vector<std::complex<double>> input;  // Bbar [N]
};
template <class T>
S4Matrices s4_matrices(const S4KernelOf<T>& parameters, std::int64_t h);

// Pairs [M], and after them their conjugates.
template <class T>
std::vector<std::complex<double>> s4_whole_vector(const T* pairs, std::int64_t states);

// C of `parameters` to C~ for kernels of `length`, and back. Both [copies, H, M] complex; may be the same memory.
template <class T>
void s4_output_for_kernel(ThreadPool& pool, const S4KernelOf<T>& parameters, std::int64_t length, T* c_of_kernel);
template <class T>
void s4_output_for_steps(ThreadPool& pool, const S4KernelOf<T>& parameters, std::int64_t length, T* c_of_steps);

}  // namespace krait::kernels
