#include "krait/kernels/s4d_kernel_backward.h"

#include "krait/kernels/s4d_states.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/vandermonde.h"

namespace krait::kernels {

void s4d_kernel_backward(ThreadPool& pool, const S4dKernel& parameters, RowsIn dkernel,
                         const S4dKernelGradients& gradients) {
  check_s4d(parameters, dkernel.rows);
  if (dkernel.columns == 0) return;
  S4dSums sums(parameters.channels * parameters.states);
  pool.parallel_for(parameters.channels, 1, [&](std::int64_t first, std::int64_t last) {
    const std::span<float> scratch =
        thread_scratch(vandermonde_scratch(parameters.states, parameters.copies, dkernel.columns));
    S4dChannel channel;
    std::vector<std::complex<double>> zeroth(static_cast<std::size_t>(parameters.copies * parameters.states));
    std::vector<std::complex<double>> derivative(zeroth.size());
    for (std::int64_t h = first; h < last; ++h) {
      prepare_s4d_channel(parameters, h, channel);
      vandermonde_moments(channel.z,
                          {dkernel.row(h), parameters.copies, dkernel.columns, parameters.channels * dkernel.stride},
                          scratch, zeroth, derivative);
      add_s4d_moments<float>(parameters, h, channel, zeroth, derivative, sums, gradients);
    }
  });
  add_s4d_sums(parameters, sums, gradients);
}

}  // namespace krait::kernels
