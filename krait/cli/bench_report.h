// How `krait bench` says what it measured: JSON for machines, a table, and the roofline.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "krait/cli/bench_measure.h"
#include "krait/kernels/machine_peak.h"
#include "krait/models/model.h"

namespace krait::cli {

// One load on one model, and what the machine could do in the same run.
struct BenchCase {
  models::ModelInfo info;
  std::string state_dtype;
  std::uint64_t state_bytes = 0;  // of a sequence, apart from what grows with it
  double token_bytes = 0.0;       // keys and values that grow with every token of it
  std::uint64_t peak_bytes = 0;   // of the process's memory when the load was done
  int threads = 0;
  BenchLoad load;
  BenchResult result;
  kernels::MachinePeak peak;
};

// An object; of several cases, an object with the list "cases". Shares:
//   decode_share_of_read_bandwidth   the bytes of weights a step reads, of states it reads and writes, and of the keys
//                                    and values of all tokens before
//   prefill_share_of_gemm            the operations of the weight matrices, of the product used (f32, or int8)
std::string json_text(std::span<const BenchCase> cases);
// One case in full with its roofline; several as one line each.
void print_cases(std::span<const BenchCase> cases);

std::string json_text(const kernels::MachinePeak& peak, int threads);
void print_peak(const kernels::MachinePeak& peak, int threads);

}  // namespace krait::cli
