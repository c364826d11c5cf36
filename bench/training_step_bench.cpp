// Whole training steps (forward, backward, AdamW) of the published shapes of 130M, on random tokens:
//   training_step_bench mamba|mamba2|scan [--layers 24] [--batch 2] [--length 1024] [--threads 2] [--rounds 3]
//                       [--bf16] [--fresh-memory] [--json]
// --fresh-memory: tensors come from libtorch's own allocator (krait/train/tensor_memory.h).
// `scan` is the selective scan alone under autograd, forward and backward, at the shape of one layer of mamba-130m.
// Each round takes turns: the machine's f32 product, a step, the product again; what is said of a step's share of the
// peak is of the round's own. Beside the clock stands the processor time of the process, which neighbours on the
// machine do not lengthen.
//
// The operations of a model with M rows, by its equations, however they are computed; backward is twice forward:
//   products    6 M times the elements of all matrices that rows are multiplied by, the head's V rows among them
//   scan        3 M E N layers times 7 (Mamba: dt A, its exponential, that times h, plus dt x times B, C h) or 5
//               (Mamba-2, whose A is one number a head)
//   convolution 3 M C layers times 2 K
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/aligned_buffer.h"
#include "krait/core/random.h"
#include "krait/kernels/matmul.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/linear.h"
#include "krait/nn/scan_selective.h"
#include "krait/train/tensor_memory.h"
#include "krait/train/trained_model.h"
#include "krait/train/trainer.h"

namespace krait::bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kVocabulary = 50280, kPadding = 16, kWidth = 768, kInner = 2 * kWidth, kConvWidth = 4;

struct Options {
  std::string subject;
  std::int64_t layers = 24, batch = 2, length = 1024, threads = 2, rounds = 3;
  bool bf16 = false, fresh_memory = false, json = false;
  std::int64_t rows() const { return batch * length; }
  std::int64_t states() const { return subject == "mamba2" ? 128 : 16; }
};

struct Seconds {
  double wall = 0.0, processor = 0.0;
};

template <class Work>
Seconds seconds_of(Work&& work) {
  const auto processor = [] {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const auto start = std::chrono::steady_clock::now();
  const double before = processor();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), processor() - before};
}

// Billions of operations a second: oneDNN's sgemm of a large square on each thread at once, and of tiles that stay in
// the cache, whichever is faster.
class Peak {
 public:
  Peak() {
    for (int i = 0; i < nn::compute_threads(); ++i) {
      operands_.emplace_back(3 * kLarge * kLarge * sizeof(float));
      std::ranges::fill(operands_.back().as<float>(), 0.5F);
    }
    measure();
  }
  struct Rates {
    double wall = 0.0, processor = 0.0;  // by a second of the clock, and of the processor time of all threads
  };
  Rates measure() {
    Rates best;
    for (const auto& [m, n, k, times] : {std::array{kLarge, kLarge, kLarge, std::int64_t{2}}, {512, 384, 512, 20}}) {
      const nn::ComputePool turn;
      ThreadPool& pool = turn;
      const double operations = 2.0 * static_cast<double>(m * n * k * times * pool.size());
      for (int run = 0; run < 2; ++run) {
        const Seconds seconds = seconds_of([&, m = m, n = n, k = k, times = times] {
          pool.parallel_for(pool.size(), 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin * times; i < end * times; ++i) {
              float* const a = operands_[static_cast<std::size_t>(i / times)].as<float>().data();
              kernels::gemm_f32({}, m, n, k, a, k, a + m * k, n, a + m * k + k * n, n);
            }
          });
        });
        best.wall = std::max(best.wall, operations / seconds.wall * 1e-9);
        best.processor = std::max(best.processor, operations / seconds.processor * 1e-9);
      }
    }
    return best;
  }

 private:
  static constexpr std::int64_t kLarge = 1536;
  std::vector<AlignedBuffer> operands_;
};

std::int64_t peak_memory_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6);
  }
  return 0;
}

class RandomTokens final : public train::BatchSource {
 public:
  RandomTokens(std::int64_t batch, std::int64_t length) : batch_(batch), length_(length) {}
  Result<train::Batch> next() override {
    train::BatchBuilder builder(batch_, length_, 0);
    const auto token = [&] { return static_cast<std::int32_t>(random_.uniform() * kVocabulary); };
    for (std::int64_t row = 0; row < batch_; ++row) {
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(length_ + 1));
      std::ranges::generate(tokens, token);
      builder.add(row, std::span(tokens).first(static_cast<std::size_t>(length_)), std::span(tokens).subspan(1));
    }
    return builder.finish();
  }
  std::vector<std::uint64_t> place() const override { return {}; }
  Result<void> seek(std::span<const std::uint64_t>) override { return {}; }

 private:
  std::int64_t batch_, length_;
  Random random_{7};
};

template <class T>
T value_of(Result<T> result) {
  if (result) return *std::move(result);
  fmt::print(stderr, "training_step_bench: {}\n", result.error().message);
  std::exit(1);
}

double scan_operations(const Options& of) {
  const double once = static_cast<double>(3 * of.rows() * kInner * of.states());
  return of.subject == "mamba2" ? 5.0 * once : 7.0 * once;
}

double model_operations(const Options& of, const nn::LanguageModel& model) {
  double products = 0.0, conv = 0.0;
  const auto rows = static_cast<double>(of.rows());
  for (const auto& parameter : model.named_parameters()) {
    const at::Tensor& tensor = parameter.value();
    if (!parameter.key().ends_with(".weight")) continue;
    // The table is the head too; the lookup of the embedding is no product.
    const bool head = parameter.key().ends_with("embedding.weight");
    if (tensor.dim() == 2) products += static_cast<double>(head ? kVocabulary * kWidth : tensor.numel());
    if (tensor.dim() == 3) conv += static_cast<double>(tensor.numel());
  }
  return 6.0 * rows * (products + conv) + static_cast<double>(of.layers) * scan_operations(of);
}

// What a step spends its time on, by the source file in nn or train that held the threads.
std::string_view part_of(std::string_view file) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kParts = {{{"linear", "products"},
                                                                                    {"scan_", "scan"},
                                                                                    {"conv1d", "convolution"},
                                                                                    {"norms", "norms"},
                                                                                    {"token_loss", "head and loss"},
                                                                                    {"optimiser", "optimiser"}}};
  for (const auto& [prefix, part] : kParts) {
    if (file.starts_with(prefix)) return part;
  }
  return "other kernels";
}

// Rounds of the peak and the subject in turns.
Json measure(const Options& of, double operations, const std::function<void()>& subject) {
  Peak peak;
  subject();
  Json rounds = Json::array(), parts = Json::object();
  Seconds least{1e30, 1e30};
  double share = 0.0, processor_share = 0.0, highest = 0.0;
  Peak::Rates before = peak.measure();
  for (std::int64_t i = 0; i < of.rounds; ++i) {
    nn::record_compute_times(true);
    const Seconds seconds = seconds_of(subject);
    const std::vector<nn::ComputeTime> times = nn::compute_times();
    nn::record_compute_times(false);
    const Peak::Rates after = peak.measure();
    const double rate = std::max(before.wall, after.wall), processor = std::max(before.processor, after.processor);
    rounds.push_back({{"seconds", seconds.wall},
                      {"processor_seconds", seconds.processor},
                      {"sgemm_gflops", rate},
                      {"utilisation", operations / seconds.wall * 1e-9 / rate},
                      {"processor_utilisation", operations / seconds.processor * 1e-9 / processor}});
    share = std::max(share, operations / seconds.wall * 1e-9 / rate);
    processor_share = std::max(processor_share, operations / seconds.processor * 1e-9 / processor);
    highest = std::max(highest, rate);
    if (seconds.processor < least.processor) {
      parts = Json::object();
      Seconds outside = seconds;
      const auto add = [&](std::string_view name, const Seconds& more) {
        Json& part = parts[std::string(name)];
        part = {part.is_null() ? more.wall : part[0].get<double>() + more.wall,
                part.is_null() ? more.processor : part[1].get<double>() + more.processor};
      };
      for (const nn::ComputeTime& time : times) {
        add(part_of(time.file), {time.seconds, time.processor_seconds});
        outside = {outside.wall - time.seconds, outside.processor - time.processor_seconds};
      }
      add("outside kernels", outside);
    }
    least = {std::min(least.wall, seconds.wall), std::min(least.processor, seconds.processor)};
    before = after;
  }
  return {{"subject", of.subject},
          {"layers", of.layers},
          {"batch", of.batch},
          {"length", of.length},
          {"threads", of.threads},
          {"precision", of.bf16 ? "bf16" : "f32"},
          {"operations", operations},
          {"seconds", least.wall},
          {"processor_seconds", least.processor},
          {"tokens_per_s", static_cast<double>(of.rows()) / least.wall},
          {"sgemm_gflops", highest},
          {"utilisation", share},
          {"processor_utilisation", processor_share},
          {"peak_memory_mib", peak_memory_kib() / 1024},
          {"parts_seconds", parts},
          {"rounds", rounds}};
}

Json measure_model(const Options& of) {
  const auto model = value_of(train::make_model({.mixers = {of.subject},
                                                 .vocabulary = kVocabulary,
                                                 .width = kWidth,
                                                 .layers = of.layers,
                                                 .conv_width = kConvWidth,
                                                 .padding = kPadding}));
  RandomTokens tokens(of.batch, of.length);
  train::TrainerOptions options;
  options.schedule = {.peak = 1e-4, .warm_up = 1, .steps = of.rounds + 2};
  train::Trainer trainer(*model, tokens, options);
  return measure(of, model_operations(of, *model), [&] { value_of(trainer.step()); });
}

Json measure_scan(const Options& of) {
  const auto normal = [](at::IntArrayRef shape, double scale = 1.0) {
    return (at::empty(shape).normal_(0.0, scale)).requires_grad_(true);
  };
  at::manual_seed(1);
  const nn::SelectiveScanInputs in = {.x = normal({of.batch, of.length, kInner}),
                                      .dt = normal({of.batch, of.length, kInner}, 0.1),
                                      .a = at::empty({kInner, of.states()}).uniform_(-16.0, -1.0).requires_grad_(true),
                                      .b = normal({of.batch, of.length, of.states()}),
                                      .c = normal({of.batch, of.length, of.states()}),
                                      .d = normal({kInner}),
                                      .z = normal({of.batch, of.length, kInner}),
                                      .dt_bias = at::empty({kInner}).uniform_(-6.9, -2.3).requires_grad_(true)};
  const at::Tensor dy = at::empty({of.batch, of.length, kInner}).normal_();
  const nn::Segments segments = nn::equal_segments(of.batch, of.length);
  return measure(of, scan_operations(of), [&] {
    nn::selective_scan(in, segments).y.backward(dy);
    for (const at::Tensor& tensor : {in.x, in.dt, in.a, in.b, in.c, in.d, in.z, in.dt_bias}) {
      tensor.mutable_grad() = at::Tensor();
    }
  });
}

void print(const Json& result) {
  const auto number = [&](const char* key) { return result[key].get<double>(); };
  fmt::print("{}: {} layers, {} x {} tokens, {} threads, {}\n", result["subject"].get<std::string>(),
             result["layers"].get<int>(), result["batch"].get<int>(), result["length"].get<int>(),
             result["threads"].get<int>(), result["precision"].get<std::string>());
  fmt::print("{:.3f} s, {:.3f} s of processor time, {:.1f} tokens/s, {:.3f} Tflop\n", number("seconds"),
             number("processor_seconds"), number("tokens_per_s"), number("operations") * 1e-12);
  fmt::print("{:.1f} % of {:.0f} GFLOP/s ({:.1f} % by processor time); peak memory {} MiB\n",
             100.0 * number("utilisation"), number("sgemm_gflops"), 100.0 * number("processor_utilisation"),
             result["peak_memory_mib"].get<std::int64_t>());
  for (const auto& [part, seconds] : result["parts_seconds"].items()) {
    fmt::print("  {:<16} {:>8.1f} ms, {:>8.1f} ms of processor time\n", part, 1e3 * seconds[0].get<double>(),
               1e3 * seconds[1].get<double>());
  }
}

bool parse(int count, char** arguments, Options& of) {
  if (count < 2) return false;
  of.subject = arguments[1];
  if (of.subject != "mamba" && of.subject != "mamba2" && of.subject != "scan") return false;
  if (of.subject == "scan") of.layers = 1;
  const std::array<std::pair<std::string_view, bool*>, 3> switches = {
      {{"--bf16", &of.bf16}, {"--fresh-memory", &of.fresh_memory}, {"--json", &of.json}}};
  const std::array<std::pair<std::string_view, std::int64_t*>, 5> numbers = {{{"--layers", &of.layers},
                                                                              {"--batch", &of.batch},
                                                                              {"--length", &of.length},
                                                                              {"--threads", &of.threads},
                                                                              {"--rounds", &of.rounds}}};
  for (int i = 2; i < count; ++i) {
    const std::string_view flag = arguments[i];
    const auto named = [flag](const auto& option) { return option.first == flag; };
    if (const auto* on = std::ranges::find_if(switches, named); on != switches.end()) {
      *on->second = true;
      continue;
    }
    const auto* found = std::ranges::find_if(numbers, named);
    if (found == numbers.end() || ++i == count) return false;
    *found->second = std::atoll(arguments[i]);
    if (*found->second < 1) return false;
  }
  return true;
}

}  // namespace
}  // namespace krait::bench

int main(int count, char** arguments) {
  krait::bench::Options options;
  if (!krait::bench::parse(count, arguments, options)) {
    fmt::print(stderr,
               "usage: training_step_bench mamba|mamba2|scan [--layers N] [--batch N] [--length N] [--threads N] "
               "[--rounds N] [--bf16] [--fresh-memory] [--json]\n");
    return 2;
  }
  at::set_num_threads(static_cast<int>(options.threads));
  krait::nn::set_compute_threads(static_cast<int>(options.threads));
  krait::nn::set_bf16_products(options.bf16);
  if (!options.fresh_memory) krait::train::keep_tensor_memory();
  if (options.bf16 && !krait::nn::bf16_products()) {
    fmt::print(stderr, "training_step_bench: this processor has no product of bf16\n");
    return 2;
  }
  const auto result =
      options.subject == "scan" ? krait::bench::measure_scan(options) : krait::bench::measure_model(options);
  if (options.json) {
    fmt::print("{}\n", result.dump());
  } else {
    krait::bench::print(result);
  }
  return 0;
}
