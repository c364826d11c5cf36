// How the parameters of Mamba's scans begin (state-spaces/mamba; Gu & Dao 2023, section 3.6 and appendix).
#pragma once

#include <ATen/core/Tensor.h>

namespace krait::nn {

using at::Tensor;

struct TimeStepRange {
  double low = 0.001, high = 0.1;
  double floor = 1e-4;
};

// The bias b [count] of a time step softplus(… + b) that begins log-uniform in the range.
Tensor time_step_bias(std::int64_t count, const TimeStepRange& range = {});

// log(1), …, log(N) in every row: A begins as S4D-Real. [E, N]
Tensor s4d_real_log(std::int64_t channels, std::int64_t states);

// log of U(low, high): A of a head of Mamba-2. [H]
Tensor uniform_log(std::int64_t heads, double low, double high);

}  // namespace krait::nn
