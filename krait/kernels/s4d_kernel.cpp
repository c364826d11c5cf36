#include "krait/kernels/s4d_kernel.h"

#include "krait/kernels/s4d_states.h"
#include "krait/kernels/scratch.h"
#include "krait/kernels/vandermonde.h"

namespace krait::kernels {

void s4d_kernel(ThreadPool& pool, const S4dKernel& parameters, RowsOut kernel) {
  check_s4d(parameters, kernel.rows);
  if (kernel.columns == 0) return;
  pool.parallel_for(parameters.channels, 1, [&](std::int64_t first, std::int64_t last) {
    const std::span<float> scratch =
        thread_scratch(vandermonde_scratch(parameters.states, parameters.copies, kernel.columns));
    S4dChannel channel;
    for (std::int64_t h = first; h < last; ++h) {
      prepare_s4d_channel(parameters, h, channel);
      vandermonde_sums(channel.z, channel.weights, scratch,
                       {kernel.row(h), parameters.copies, kernel.columns, parameters.channels * kernel.stride});
    }
  });
}

}  // namespace krait::kernels
