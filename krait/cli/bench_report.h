// How `krait bench` says what it measured: JSON for machines, a table, and the roofline.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "krait/cli/bench_measure.h"
#include "krait/kernels/machine_peak.h"

namespace krait::cli {

nlohmann::json peak_json(const kernels::MachinePeak& peak, int threads);

// A measured case: what ran, its rates, and their shares of the machine's limits.
//   decode_share_of_read_bandwidth   the bytes of weights a step reads, and of states it reads and writes
//   prefill_share_of_gemm            the operations of the weight matrices, of the product used (f32, or int8)
nlohmann::json case_json(runtime::Engine& engine, const BenchLoad& load, const BenchResult& result,
                         const kernels::MachinePeak& peak, const std::string& state_dtype);

void print_peak(const nlohmann::json& peak);
void print_case(const nlohmann::json& out);
// One line a case.
void print_sweep(const nlohmann::json& cases);

}  // namespace krait::cli
