// krait bench: tokens per second in prefill and decode, each beside the machine's own limit measured in the same run.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/core/random.h"
#include "krait/kernels/machine_peak.h"
#include "krait/kernels/simd_target.h"
#include "krait/models/synthetic.h"
#include "krait/runtime/session.h"

namespace krait::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  ModelOptions model;
  std::string synthetic;
  std::int64_t prompt = 512;
  std::int64_t decode = 128;
  int repeats = 5;
  bool peak = false;
  bool json = false;
};

struct Samples {
  std::vector<double> per_second;
  double median() const {
    std::vector<double> sorted = per_second;
    std::ranges::sort(sorted);
    const std::size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  double best() const { return *std::ranges::max_element(per_second); }
};

std::unique_ptr<runtime::Engine> open_bench_engine(const BenchOptions& options) {
  if (options.synthetic.empty()) return open_engine(options.model);
  const auto shape = value_or_throw(models::synthetic_shape(options.synthetic));
  std::shared_ptr<const formats::WeightSource> source = models::make_synthetic(shape, DType::kF32, /*seed=*/1234);
  auto model = value_or_throw(models::load_model(std::move(source), options.model.load_options()));
  return std::make_unique<runtime::Engine>(std::move(model), runtime::EngineOptions{options.model.threads});
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

nlohmann::json peak_json(const kernels::MachinePeak& peak, int threads) {
  return {{"read_gb_per_s", peak.read_gb_per_s},
          {"gemm_f32_gflops", peak.gemm_f32_gflops},
          {"gemm_bf16_gflops", peak.gemm_bf16_gflops},
          {"gemm_int8_gops", peak.gemm_int8_gops},
          {"threads", threads},
          {"simd_target", kernels::active_target()}};
}

nlohmann::json measure_model(const BenchOptions& options, runtime::Engine& engine) {
  const models::ModelInfo& info = engine.model().info();
  Random random(1);
  std::vector<formats::TokenId> ids(static_cast<std::size_t>(options.prompt + options.decode));
  for (auto& id : ids) id = static_cast<formats::TokenId>(random.next() % static_cast<std::uint64_t>(info.vocabulary));
  const std::span<const formats::TokenId> prompt = std::span(ids).first(static_cast<std::size_t>(options.prompt));
  const std::span<const formats::TokenId> rest = std::span(ids).subspan(prompt.size());

  Samples prefill;
  Samples decode;
  const InterruptGuard guard;
  Progress progress("measuring", options.repeats + 1, "rounds");
  for (int round = 0; round <= options.repeats; ++round) {  // round 0 warms caches and pages and is not counted
    if (InterruptGuard::interrupted()) throw CommandError("interrupted");
    runtime::Session session(engine);
    auto start = Clock::now();
    session.feed(prompt);
    const double prefill_seconds = seconds_since(start);
    start = Clock::now();
    for (std::size_t i = 0; i < rest.size(); ++i) session.feed(rest.subspan(i, 1));
    const double decode_seconds = seconds_since(start);
    progress.update(round + 1);
    if (round == 0) continue;
    if (options.prompt > 0) prefill.per_second.push_back(static_cast<double>(options.prompt) / prefill_seconds);
    if (options.decode > 0) decode.per_second.push_back(static_cast<double>(options.decode) / decode_seconds);
  }

  nlohmann::json out = {{"architecture", info.architecture},
                        {"parameters", info.parameters},
                        {"dtype", to_string(info.weights)},
                        {"threads", engine.pool().size()},
                        {"prompt_tokens", options.prompt},
                        {"decode_tokens", options.decode},
                        {"repeats", options.repeats},
                        {"simd_target", kernels::active_target()},
                        {"weight_bytes", info.weight_bytes},
                        {"weight_bytes_per_decoded_token", info.decode_weight_bytes},
                        {"matmul_flops_per_prefill_token", info.matmul_flops_per_token},
                        {"state_bytes_per_sequence", engine.states().bytes_per_state()},
                        {"peak_rss_bytes", peak_memory_bytes()},
                        {"prefill_tokens_per_s", nullptr},
                        {"decode_tokens_per_s", nullptr}};
  if (!prefill.per_second.empty()) {
    out["prefill_tokens_per_s"] = prefill.median();
    out["prefill_tokens_per_s_best"] = prefill.best();
  }
  if (!decode.per_second.empty()) {
    out["decode_tokens_per_s"] = decode.median();
    out["decode_tokens_per_s_best"] = decode.best();
  }
  return out;
}

void add_shares(nlohmann::json& out, const kernels::MachinePeak& peak) {
  if (out["decode_tokens_per_s"].is_number() && peak.read_gb_per_s > 0) {
    out["decode_share_of_read_bandwidth"] = out["decode_tokens_per_s"].get<double>() *
                                            out["weight_bytes_per_decoded_token"].get<double>() /
                                            (peak.read_gb_per_s * 1e9);
  }
  if (out["prefill_tokens_per_s"].is_number() && peak.gemm_f32_gflops > 0) {
    out["prefill_share_of_gemm_f32"] = out["prefill_tokens_per_s"].get<double>() *
                                       out["matmul_flops_per_prefill_token"].get<double>() /
                                       (peak.gemm_f32_gflops * 1e9);
  }
}

void print_table(const nlohmann::json& out) {
  const Style style = Style::for_stream(stdout);
  const auto row = [&](std::string_view label, const std::string& value) {
    fmt::print("{}{:<10}{}{}\n", style.bold, label, style.reset, value);
  };
  const auto share = [&](const char* key, const char* of) {
    return out.contains(key) ? fmt::format("   {:.0f} % of {}", out[key].get<double>() * 100, of) : std::string();
  };
  if (out.contains("architecture")) {
    row("model", fmt::format("{}, {} parameters, {}, {} threads", out["architecture"].get<std::string>(),
                             count_text(out["parameters"].get<std::int64_t>()), out["dtype"].get<std::string>(),
                             out["threads"].get<int>()));
    if (out["prefill_tokens_per_s"].is_number()) {
      row("prefill", fmt::format("{:>9.1f} tokens/s (best {:.1f}){}", out["prefill_tokens_per_s"].get<double>(),
                                 out["prefill_tokens_per_s_best"].get<double>(),
                                 share("prefill_share_of_gemm_f32", "the machine's f32 GEMM")));
    }
    if (out["decode_tokens_per_s"].is_number()) {
      row("decode", fmt::format("{:>9.1f} tokens/s (best {:.1f}){}", out["decode_tokens_per_s"].get<double>(),
                                out["decode_tokens_per_s_best"].get<double>(),
                                share("decode_share_of_read_bandwidth", "the machine's read bandwidth")));
    }
    row("memory",
        fmt::format("weights {}, state {} a sequence, peak {}", bytes_text(out["weight_bytes"].get<std::uint64_t>()),
                    bytes_text(out["state_bytes_per_sequence"].get<std::uint64_t>()),
                    bytes_text(out["peak_rss_bytes"].get<std::uint64_t>())));
  }
  if (out.contains("machine")) {
    const auto& peak = out["machine"];
    row("machine",
        fmt::format("reads {:.1f} GB/s; GEMM {:.0f} GFLOP/s f32, {:.0f} bf16, {:.0f} GOP/s int8 ({} threads, {})",
                    peak["read_gb_per_s"].get<double>(), peak["gemm_f32_gflops"].get<double>(),
                    peak["gemm_bf16_gflops"].get<double>(), peak["gemm_int8_gops"].get<double>(),
                    peak["threads"].get<int>(), peak["simd_target"].get<std::string>()));
  }
}

int bench(const BenchOptions& options) {
  if (options.peak && options.synthetic.empty() && options.model.model.empty()) {
    // The machine alone; its numbers stand at the top of the object.
    ThreadPool pool(options.model.threads);
    const auto peak = peak_json(kernels::measure_machine_peak(pool), pool.size());
    if (options.json) {
      fmt::print("{}\n", peak.dump());
    } else {
      print_table({{"machine", peak}});
    }
    return 0;
  }
  const auto engine = open_bench_engine(options);
  nlohmann::json out = measure_model(options, *engine);  // before the peak, whose buffers would count as peak memory
  const kernels::MachinePeak peak = kernels::measure_machine_peak(engine->pool());
  out["machine"] = peak_json(peak, engine->pool().size());
  add_shares(out, peak);
  if (options.json) {
    fmt::print("{}\n", out.dump());
  } else {
    print_table(out);
  }
  return 0;
}

}  // namespace

void add_bench(CLI::App& program, int& status) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = program.add_subcommand("bench", "Measure speed, beside the machine's limits");
  options->model.add_model(*command);
  std::vector<std::string> names;
  for (const auto& shape : models::synthetic_shapes()) names.emplace_back(shape.name);
  command->add_option("--synthetic", options->synthetic, "Random weights of a published shape instead of a model")
      ->check(CLI::IsMember(names))
      ->excludes("--model");
  options->model.add_engine(*command);
  command->add_option("-p,--prompt", options->prompt, "Tokens to read at once")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("-n,--decode", options->decode, "Tokens to decode one by one")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command->add_option("-r,--repeats", options->repeats, "Rounds; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--peak", options->peak, "Measure the machine alone: read bandwidth and matrix products");
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "Examples:\n"
      "  krait bench\n"
      "  krait bench --synthetic mamba2-130m -p 512 -n 128 --threads 2\n"
      "  krait bench --peak --json");
  command->callback([options, &status] { status = bench(*options); });
}

}  // namespace krait::cli
