// krait bench: tokens per second in prefill and decode, each beside the machine's own limit measured in the same run.
// Lists of values make a sweep: every combination is measured, and printed as a line.
#include <fmt/format.h>

#include "krait/cli/bench_report.h"
#include "krait/cli/command.h"
#include "krait/cli/open_model.h"
#include "krait/cli/terminal.h"
#include "krait/models/synthetic.h"

namespace krait::cli {
namespace {

struct BenchOptions {
  ModelOptions model;
  std::string synthetic;
  std::vector<std::string> weights = {""};
  std::vector<std::string> states = {""};
  std::vector<int> threads = {0};
  std::vector<std::int64_t> prompts = {512};
  std::vector<std::int64_t> batches = {1};
  std::vector<std::int64_t> positions = {-1};
  BenchLoad load;
  bool peak = false;
  bool json = false;
};

std::unique_ptr<runtime::Engine> open_bench_engine(const BenchOptions& options, const ModelOptions& model) {
  if (options.synthetic.empty()) return open_engine(model);
  const auto shape = value_or_throw(models::synthetic_shape(options.synthetic));
  std::shared_ptr<const formats::WeightSource> source = models::make_synthetic(shape, DType::kF32, /*seed=*/1234);
  auto loaded = value_or_throw(models::load_model(std::move(source), model.load_options()));
  return std::make_unique<runtime::Engine>(std::move(loaded), runtime::EngineOptions{model.threads});
}

// Every load on one loaded model. The machine is measured last, since its buffers would count as peak memory.
void measure_loads(const BenchOptions& options, const ModelOptions& model, std::vector<BenchCase>& cases) {
  const auto engine = open_bench_engine(options, model);
  const std::size_t first = cases.size();
  for (const std::int64_t batch : options.batches) {
    for (const std::int64_t position : options.positions) {
      for (const std::int64_t prompt : options.prompts) {
        BenchCase bench;
        bench.info = engine->model().info();
        bench.state_dtype = model.state_dtype.empty() ? "f32" : model.state_dtype;
        bench.state_bytes = engine->states().bytes_per_state();
        bench.token_bytes = static_cast<double>(engine->states().page_bytes()) / models::StateLayout::kPageTokens;
        bench.threads = engine->pool().size();
        bench.load = options.load;
        bench.load.batch = batch;
        bench.load.position = position;
        bench.load.prompt = prompt;
        bench.result = measure(*engine, bench.load);
        bench.peak_bytes = peak_memory_bytes();
        cases.push_back(std::move(bench));
      }
    }
  }
  const kernels::MachinePeak peak = kernels::measure_machine_peak(engine->pool());
  for (std::size_t i = first; i < cases.size(); ++i) cases[i].peak = peak;
}

int bench(const BenchOptions& options) {
  if (options.peak && options.synthetic.empty() && options.model.model.empty()) {
    // The machine alone; its numbers stand at the top of the object.
    ThreadPool pool(options.threads.front());
    const kernels::MachinePeak peak = kernels::measure_machine_peak(pool);
    if (options.json) {
      fmt::print("{}\n", json_text(peak, pool.size()));
    } else {
      print_peak(peak, pool.size());
    }
    return 0;
  }
  std::vector<BenchCase> cases;
  for (const std::string& weights : options.weights) {
    for (const std::string& states : options.states) {
      for (const int threads : options.threads) {
        ModelOptions model = options.model;
        model.weights = weights;
        model.state_dtype = states;
        model.threads = threads;
        measure_loads(options, model, cases);
      }
    }
  }
  if (options.json) {
    fmt::print("{}\n", json_text(cases));
  } else {
    print_cases(cases);
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
  const auto list = [&](const char* flag, auto& values, const char* what, auto&& check) {
    command->add_option(flag, values, what)->delimiter(',')->check(check)->type_name("LIST");
  };
  list("--weights,--dtype", options->weights, "Formats of the weight matrices (default: the file's)",
       CLI::IsMember(kWeightFormats));
  list("--state-dtype", options->states, "Formats of the states: f32, bf16, int8 (default: f32)",
       CLI::IsMember({"f32", "bf16", "int8"}));
  command
      ->add_option("--kv-dtype", options->model.kv_dtype, "Format of keys and values: f32, bf16, int8 (default: f32)")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->type_name("TYPE");
  list("-t,--threads", options->threads, "Threads (default: one for each core)", CLI::Range(1, 1024));
  list("-p,--prompt", options->prompts, "Tokens to read at once (default: 512)", CLI::Range(0, 1 << 24));
  list("--batch", options->batches, "Sequences that decode together (default: 1)", CLI::Range(1, 1 << 16));
  list("--at", options->positions, "Tokens in the states before the first decoded one (default: the prompt)",
       CLI::Range(0, 1 << 30));
  command->add_option("-n,--decode", options->load.decode, "Tokens to decode one by one in each sequence")
      ->check(CLI::Range(0, 1 << 24))
      ->capture_default_str();
  command
      ->add_option("--mixed", options->load.mixed,
                   "Tokens of another sequence's prompt to read in every decode step; they are not counted")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  command->add_option("-r,--repeats", options->load.repeats, "Rounds; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--in-place", options->model.in_place, "Use 16- and 32-bit weights where the file has them");
  command->add_flag("--exact-activations", options->model.exact_activations,
                    "Multiply GGUF weights with f32 activations");
  command->add_flag("--peak", options->peak, "Measure the machine alone: read bandwidth and matrix products");
  command->add_flag("--json", options->json, "For machines");
  command->footer(
      "One case ends in a roofline: time, bytes and operations of every operator beside the machine's limits.\n"
      "Examples:\n"
      "  krait bench\n"
      "  krait bench --synthetic mamba2-130m -p 512 -n 128 --threads 2\n"
      "  krait bench --synthetic mamba-130m --weights f32,bf16,int8,int4 --batch 1,8,32 -p 0\n"
      "  krait bench --synthetic mamba-130m --at 100,100000 -p 0 -n 64\n"
      "  krait bench --peak --json");
  command->callback([options, &status] { status = bench(*options); });
}

}  // namespace krait::cli
