#include "krait/cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "krait/cli/terminal.h"
#include "krait/kernels/simd_target.h"

namespace krait::cli {
namespace {

using nlohmann::json;

void put_samples(json& out, const std::string& name, const Samples& samples) {
  out[name] = nullptr;
  if (samples.empty()) return;
  out[name] = samples.median();
  out[name + "_best"] = samples.best();
  out[name + "_spread"] = samples.spread();
}

// Each operator beside both limits. The nearer one is what it could at best be brought to.
json roofline(const std::vector<models::OperatorCost>& costs, const kernels::MachinePeak& peak) {
  double total = 0.0;
  for (const auto& cost : costs) total += cost.seconds;
  json rows = json::array();
  for (const auto& cost : costs) {
    const double bytes = static_cast<double>(cost.bytes);
    const double operations = static_cast<double>(cost.operations);
    const double gemm = cost.integers ? peak.gemm_int8_gops : peak.gemm_f32_gflops;
    rows.push_back({{"operator", cost.name},
                    {"calls", cost.calls},
                    {"seconds", cost.seconds},
                    {"share_of_time", total > 0 ? cost.seconds / total : 0.0},
                    {"bytes", cost.bytes},
                    {"operations", cost.operations},
                    {"gb_per_s", bytes / cost.seconds * 1e-9},
                    {"gops", operations / cost.seconds * 1e-9},
                    {"share_of_read_bandwidth", bytes / cost.seconds * 1e-9 / peak.read_gb_per_s},
                    {"share_of_gemm", operations / cost.seconds * 1e-9 / gemm},
                    {"gemm", cost.integers ? "int8" : "f32"}});
  }
  return rows;
}

void print_row(const Style& style, std::string_view label, const std::string& value) {
  fmt::print("{}{:<10}{}{}\n", style.bold, label, style.reset, value);
}

std::string percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

void print_roofline(const json& rows, std::string_view phase, const Style& style) {
  fmt::print("\n{}{:<12}{:>8}{:>8}{:>10}{:>9}{:>10}{:>9}   limit{}\n", style.bold, phase, "ms", "time", "GB/s",
             "of read", "GOP/s", "of GEMM", style.reset);
  for (const auto& row : rows) {
    const double read = row["share_of_read_bandwidth"], gemm = row["share_of_gemm"];
    fmt::print("{:<12}{:>8.2f}{:>8}{:>10.1f}{:>9}{:>10.1f}{:>9}   {}\n", row["operator"].get<std::string>(),
               1e3 * row["seconds"].get<double>(), percent(row["share_of_time"]), row["gb_per_s"].get<double>(),
               percent(read), row["gops"].get<double>(), percent(gemm),
               read >= gemm ? std::string("memory") : fmt::format("{} GEMM", row["gemm"].get<std::string>()));
  }
}

json peak_json(const kernels::MachinePeak& peak, int threads) {
  return {{"read_gb_per_s", peak.read_gb_per_s},
          {"gemm_f32_gflops", peak.gemm_f32_gflops},
          {"gemm_bf16_gflops", peak.gemm_bf16_gflops},
          {"gemm_int8_gops", peak.gemm_int8_gops},
          {"threads", threads},
          {"simd_target", kernels::active_target()}};
}

json case_json(const BenchCase& bench) {
  const models::ModelInfo& info = bench.info;
  const BenchLoad& load = bench.load;
  json out = {{"architecture", info.architecture},
              {"parameters", info.parameters},
              {"dtype", to_string(info.weights)},
              {"weights", to_string(info.weights)},
              {"state_dtype", bench.state_dtype},
              {"threads", bench.threads},
              {"prompt_tokens", load.prompt},
              {"decode_tokens", load.decode},
              {"batch", load.batch},
              {"position", load.position >= 0 ? load.position : load.prompt},
              {"mixed", load.mixed},
              {"repeats", load.repeats},
              {"weight_bytes", info.weight_bytes},
              {"weight_bytes_per_decoded_token", info.decode_weight_bytes},
              {"matmul_flops_per_prefill_token", info.matmul_flops_per_token},
              {"state_bytes_per_sequence", bench.state_bytes},
              {"state_bytes_per_token", bench.token_bytes},
              {"peak_rss_bytes", bench.peak_bytes}};
  put_samples(out, "prefill_tokens_per_s", bench.result.prefill);
  put_samples(out, "decode_tokens_per_s", bench.result.decode);
  const bool integers = !kernels::is_float(info.weights);
  if (!bench.result.prefill.empty()) {
    const double operations = bench.result.prefill.median() * static_cast<double>(info.matmul_flops_per_token) * 1e-9;
    out["prefill_gemm"] = integers ? "int8" : "f32";
    out["prefill_share_of_gemm"] = operations / (integers ? bench.peak.gemm_int8_gops : bench.peak.gemm_f32_gflops);
    if (!integers) out["prefill_share_of_gemm_f32"] = out["prefill_share_of_gemm"];
    out["prefill_operators"] = roofline(bench.result.prefill_operators, bench.peak);
  }
  if (!bench.result.decode.empty()) {
    const double steps = bench.result.decode.median() / static_cast<double>(load.batch);
    const double bytes = static_cast<double>(info.decode_weight_bytes) +
                         2.0 * static_cast<double>(load.batch) * static_cast<double>(bench.state_bytes) +
                         static_cast<double>(load.batch * out["position"].get<std::int64_t>()) * bench.token_bytes;
    out["bytes_per_decode_step"] = bytes;
    out["decode_share_of_read_bandwidth"] = steps * bytes / (bench.peak.read_gb_per_s * 1e9);
    out["decode_operators"] = roofline(bench.result.decode_operators, bench.peak);
  }
  out["machine"] = peak_json(bench.peak, bench.threads);
  return out;
}

void print_machine(const json& peak) {
  print_row(Style::for_stream(stdout), "machine",
            fmt::format("reads {:.1f} GB/s; GEMM {:.0f} GFLOP/s f32, {:.0f} bf16, {:.0f} GOP/s int8 ({} threads, {})",
                        peak["read_gb_per_s"].get<double>(), peak["gemm_f32_gflops"].get<double>(),
                        peak["gemm_bf16_gflops"].get<double>(), peak["gemm_int8_gops"].get<double>(),
                        peak["threads"].get<int>(), peak["simd_target"].get<std::string>()));
}

void print_case(const json& out) {
  const Style style = Style::for_stream(stdout);
  print_row(style, "model",
            fmt::format("{}, {} parameters, weights {}, states {}, {} threads", out["architecture"].get<std::string>(),
                        count_text(out["parameters"].get<std::int64_t>()), out["weights"].get<std::string>(),
                        out["state_dtype"].get<std::string>(), out["threads"].get<int>()));
  if (out["prefill_tokens_per_s"].is_number()) {
    print_row(style, "prefill",
              fmt::format("{:>9.1f} tokens/s (best {:.1f})   {} of the machine's {} GEMM",
                          out["prefill_tokens_per_s"].get<double>(), out["prefill_tokens_per_s_best"].get<double>(),
                          percent(out["prefill_share_of_gemm"]), out["prefill_gemm"].get<std::string>()));
  }
  if (out["decode_tokens_per_s"].is_number()) {
    print_row(style, "decode",
              fmt::format("{:>9.1f} tokens/s (best {:.1f})   {} of the machine's read bandwidth{}",
                          out["decode_tokens_per_s"].get<double>(), out["decode_tokens_per_s_best"].get<double>(),
                          percent(out["decode_share_of_read_bandwidth"]),
                          out["batch"] == 1 ? std::string() : fmt::format(", {} sequences", out["batch"].get<int>())));
  }
  print_row(
      style, "memory",
      fmt::format("weights {}, state {} a sequence, peak {}", bytes_text(out["weight_bytes"].get<std::uint64_t>()),
                  bytes_text(out["state_bytes_per_sequence"].get<std::uint64_t>()),
                  bytes_text(out["peak_rss_bytes"].get<std::uint64_t>())));
  print_machine(out["machine"]);
  if (out.contains("prefill_operators")) print_roofline(out["prefill_operators"], "prefill", style);
  if (out.contains("decode_operators")) print_roofline(out["decode_operators"], "decode", style);
}

void print_sweep(const json& cases) {
  const Style style = Style::for_stream(stdout);
  fmt::print("{}{:<20}{:<7}{:>8}{:>8}{:>7}{:>9}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}{}\n", style.bold, "weights", "states",
             "threads", "prompt", "batch", "position", "prefill/s", "± %", "of GEMM", "decode/s", "± %", "of read",
             style.reset);
  for (const json& out : cases) {
    const auto rate = [&](const std::string& key, const char* share) {
      if (!out[key].is_number()) return fmt::format("{:>10}{:>9}{:>9}", "-", "-", "-");
      return fmt::format("{:>10.1f}{:>9.1f}{:>9}", out[key].get<double>(), 50 * out[key + "_spread"].get<double>(),
                         percent(out[share]));
    };
    fmt::print("{:<20}{:<7}{:>8}{:>8}{:>7}{:>9}{}{}\n", out["weights"].get<std::string>(),
               out["state_dtype"].get<std::string>(), out["threads"].get<int>(),
               out["prompt_tokens"].get<std::int64_t>(), out["batch"].get<std::int64_t>(),
               out["position"].get<std::int64_t>(), rate("prefill_tokens_per_s", "prefill_share_of_gemm"),
               rate("decode_tokens_per_s", "decode_share_of_read_bandwidth"));
  }
}

}  // namespace

std::string json_text(std::span<const BenchCase> cases) {
  if (cases.size() == 1) return case_json(cases.front()).dump();
  json all = json::array();
  for (const BenchCase& bench : cases) all.push_back(case_json(bench));
  return json{{"cases", all}}.dump();
}

void print_cases(std::span<const BenchCase> cases) {
  if (cases.size() == 1) {
    print_case(case_json(cases.front()));
    return;
  }
  json all = json::array();
  for (const BenchCase& bench : cases) all.push_back(case_json(bench));
  print_sweep(all);
  print_peak(cases.back().peak, cases.back().threads);
}

std::string json_text(const kernels::MachinePeak& peak, int threads) { return peak_json(peak, threads).dump(); }

void print_peak(const kernels::MachinePeak& peak, int threads) { print_machine(peak_json(peak, threads)); }

}  // namespace krait::cli
