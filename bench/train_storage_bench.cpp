// What checkpoints and offloading cost:
//   train_storage_bench checkpoint FOLDER [ROUNDS]   how long steps of a run wait for the checkpoint of an f32 AdamW
//       state of Mamba 130M (1.5 GB), written while they go on, beside waiting for it; in turns, minima over rounds
//   train_storage_bench memory                       what pools of buffers take for the same tensors
//   train_storage_bench offload FOLDER               the same state layer by layer through a file, against the model of
//       its memory
// The steps of `checkpoint` are AdamW over the whole state and arithmetic in registers, on all threads: they want both
// the memory and the cores that the writer wants.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "bench/bench_pool.h"
#include "bench/mamba_130m_tensors.h"
#include "bench/value_of.h"
#include "krait/core/aligned_buffer.h"
#include "krait/formats/safetensors_writer.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/offload_file.h"

namespace krait::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr const char* kFamilies[] = {"parameters", "first_moments", "second_moments"};

// Parameters and both moments in buffers that stay where they are.
class AdamState {
 public:
  AdamState() {
    for (const char* family : kFamilies) {
      std::vector<formats::NamedTensor> tensors;
      for (const auto& layer : mamba_130m_layers()) {
        for (const SizedTensor& tensor : layer) {
          AlignedBuffer& buffer = buffers_.emplace_back(tensor.elements() * sizeof(float));
          std::ranges::fill(buffer.as<float>(), 0.01F);
          bytes_ += buffer.size();
          tensors.push_back({tensor.name, {DType::kF32, tensor.shape, std::as_bytes(buffer.as<float>())}});
        }
      }
      providers_.emplace_back(family, tensors);
      for (auto& tensor : tensors) all_.push_back({std::string(family) + "/" + tensor.name, tensor.view});
    }
    for (const auto& provider : providers_) pointers_.push_back(&provider);
  }

  std::uint64_t bytes() const { return bytes_; }
  std::span<const train::StateProvider* const> providers() const { return pointers_; }
  std::span<const formats::NamedTensor> tensors() const { return all_; }

  // One step of AdamW with the parameters as their own gradients, then `work` rounds of arithmetic on each thread.
  void step(std::int64_t work) {
    const std::size_t count = buffers_.size() / 3;
    for (std::size_t i = 0; i < count; ++i) {
      const auto p = buffers_[i].as<float>(), m = buffers_[count + i].as<float>(),
                 v = buffers_[2 * count + i].as<float>();
      pool().parallel_for(static_cast<std::int64_t>(p.size()), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j) {
          m[j] = 0.9F * m[j] + 0.1F * p[j];
          v[j] = 0.999F * v[j] + 0.001F * p[j] * p[j];
          p[j] -= 1e-4F * (m[j] / (std::sqrt(v[j]) + 1e-8F) + 0.1F * p[j]);
        }
      });
    }
    pool().parallel_for(64, 1, [&](std::int64_t begin, std::int64_t end) {
      float lanes[64];
      for (std::int64_t lane = 0; lane < 64; ++lane) lanes[lane] = static_cast<float>(begin + lane);
      for (std::int64_t i = 0; i < work * (end - begin); ++i) {
        for (float& lane : lanes) lane = lane * 0.999F + 0.5F;
      }
      sink_ = lanes[static_cast<std::size_t>(end) % 64];
    });
  }

 private:
  std::vector<AlignedBuffer> buffers_;
  std::vector<train::TensorStateProvider> providers_;
  std::vector<const train::StateProvider*> pointers_;
  std::vector<formats::NamedTensor> all_;
  std::uint64_t bytes_ = 0;
  volatile float sink_ = 0;
};

// The arithmetic that makes a step about `seconds` long.
std::int64_t work_for(AdamState& state, double seconds) {
  const auto fastest = [&](std::int64_t work) {
    double best = 1e9;
    for (int i = 0; i < 4; ++i) {
      const auto start = Clock::now();
      state.step(work);
      best = std::min(best, seconds_since(start));
    }
    return best;
  };
  constexpr std::int64_t kTrial = 500'000;
  const double memory = fastest(0);
  const double trial = std::max(1e-3, fastest(kTrial) - memory);
  return std::max<std::int64_t>(0, static_cast<std::int64_t>((seconds - memory) / trial * kTrial));
}

int measure_checkpoints(const std::string& folder, int rounds) {
  constexpr int kSteps = 12;
  AdamState state;
  const std::int64_t work = work_for(state, 0.4);
  train::SizeClassPool memory;
  const auto writer = value_of(train::CheckpointWriter::open({.folder = folder, .keep_last = 1}, pool(), memory));
  std::int64_t number = 0;
  const auto save = [&] { value_of(writer->save(number++, state.providers())); };
  const auto finish = [&] {
    auto reports = writer->finish();
    for (auto& report : reports) value_of(report.committed);
    return reports.empty() ? train::CheckpointReport() : reports.back();
  };
  const auto steps = [&] {
    for (int i = 0; i < kSteps; ++i) state.step(work);
  };
  const auto taking = Clock::now();
  value_of(writer->prepare(state.providers()));
  const double first = seconds_since(taking);
  fmt::print("{} of {} threads, {:.2f} GB, rounds of {} steps, {}\n", writer->engine_name(), pool().size(),
             static_cast<double>(state.bytes()) / kGiga, kSteps, "seconds: minima");

  struct Minima {
    double plain = 1e9, waiting = 1e9, waiting_stall = 1e9, beside = 1e9, beside_stall = 1e9, safetensors = 1e9,
           write_beside = 1e9;
  } best;
  for (int round = 0; round < rounds; ++round) {
    auto start = Clock::now();
    steps();
    best.plain = std::min(best.plain, seconds_since(start));

    start = Clock::now();
    save();
    finish();
    best.waiting_stall = std::min(best.waiting_stall, seconds_since(start));
    steps();
    best.waiting = std::min(best.waiting, seconds_since(start));

    start = Clock::now();
    save();
    best.beside_stall = std::min(best.beside_stall, seconds_since(start));
    steps();
    const auto waited = Clock::now();
    const auto report = finish();
    const double late = seconds_since(waited);
    best.beside = std::min(best.beside, seconds_since(start));
    best.write_beside = std::min(best.write_beside, report.write_seconds);

    start = Clock::now();
    value_of(formats::write_safetensors(folder + "/whole.safetensors", state.tensors()));
    best.safetensors = std::min(best.safetensors, seconds_since(start));
    fmt::print("round {}: the writer was {} when the steps were through ({:.2f} s late)\n", round + 1,
               late > 1e-3 ? "not done" : "done", late);
  }
  fmt::print("prepare(), once before the first step           {:8.3f}\n", first);
  fmt::print("stall, snapshot and written beside              {:8.3f}\n", best.beside_stall);
  fmt::print("stall, waiting until it is committed            {:8.3f}   ratio {:.1f}\n", best.waiting_stall,
             best.waiting_stall / best.beside_stall);
  fmt::print("write_safetensors from the tensors themselves   {:8.3f}   ratio {:.1f}\n", best.safetensors,
             best.safetensors / best.beside_stall);
  fmt::print("writing beside the steps took                   {:8.3f}\n", best.write_beside);
  fmt::print("steps alone                                     {:8.3f}\n", best.plain);
  fmt::print("steps and a checkpoint beside                   {:8.3f}   {:+.1f} %\n", best.beside,
             100 * (best.beside / best.plain - 1));
  fmt::print("steps and waiting for a checkpoint              {:8.3f}   {:+.1f} %\n", best.waiting,
             100 * (best.waiting / best.plain - 1));
  return 0;
}

// Bytes of each layer's tensors: parameters and both moments.
std::vector<std::vector<std::uint64_t>> layer_bytes() {
  std::vector<std::vector<std::uint64_t>> layers;
  for (const auto& layer : mamba_130m_layers()) {
    layers.emplace_back();
    for (const SizedTensor& tensor : layer)
      layers.back().insert(layers.back().end(), 3, tensor.elements() * sizeof(float));
  }
  return layers;
}

int compare_pools() {
  fmt::print("{:<44} {:>8} {:>9} {:>17} {:>17} {:>17}\n", "buffers at once, f32", "buffers", "asked MB", "classes",
             "powers of two", "all the largest");
  const auto layers = layer_bytes();
  const auto row = [&](const char* what, std::size_t first, std::size_t count) {
    std::uint64_t buffers = 0, asked = 0, powers = 0, largest = 0;
    train::SizeClassPool pool;
    std::vector<train::PoolBlock> blocks;
    for (const auto& layer : std::span(layers).subspan(first, count)) {
      for (const std::uint64_t bytes : layer) {
        blocks.push_back(value_of(pool.take(bytes)));
        ++buffers;
        asked += bytes;
        powers += std::bit_ceil(bytes);
        largest = std::max(largest, bytes);
      }
    }
    const auto entry = [&](std::uint64_t bytes) {
      return fmt::format("{:8.1f} ({:5.2f} %)", static_cast<double>(bytes) / 1e6,
                         100 * (1 - static_cast<double>(asked) / static_cast<double>(bytes)));
    };
    fmt::print("{:<44} {:>8} {:>9.1f} {:>17} {:>17} {:>17}\n", what, buffers, static_cast<double>(asked) / 1e6,
               entry(pool.use().peak_reserved), entry(powers), entry(largest * buffers));
  };
  row("three layers: read, in use, written", 1, 3);
  row("the same where the embedding is one of them", 0, 3);
  row("the whole model", 0, layers.size());
  fmt::print("MB, and how much of it is wasted\n");
  return 0;
}

std::uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t size = 0, pages = 0;
  file >> size >> pages;
  return pages * 4096;
}

int measure_offload(const std::string& folder) {
  const auto layers = layer_bytes();
  const std::uint64_t predicted = train::predicted_peak_bytes(layers, 1, 1);
  const std::uint64_t before = resident_bytes();
  const auto file = value_of(train::OffloadFile::create({.folder = folder, .memory_bytes = predicted}));
  std::vector<std::vector<train::OffloadFile::Slot>> slots;
  for (const auto& layer : layers) {
    slots.emplace_back();
    for (const std::uint64_t bytes : layer) slots.back().push_back(value_of(file->reserve("t", bytes)));
  }
  std::uint64_t peak = 0;
  double waited = 0;
  const auto pass = [&](bool forward) {
    for (std::size_t n = 0; n < slots.size(); ++n) {
      const auto layer = [&](std::size_t i) { return slots[forward ? i : slots.size() - 1 - i]; };
      if (n + 1 < slots.size()) {
        for (const auto slot : layer(n + 1)) file->prefetch(slot);
      }
      for (const auto slot : layer(n)) {
        const auto start = Clock::now();
        const auto bytes = value_of(file->acquire(slot));
        waited += seconds_since(start);
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(static_cast<int>(byte) + 1);
      }
      peak = std::max(peak, resident_bytes());
      for (const auto slot : layer(n)) value_of(file->release(slot, true));
    }
  };
  pass(true);
  waited = 0;
  const auto start = Clock::now();
  pass(false);
  pass(true);
  value_of(file->flush());
  const double seconds = seconds_since(start);
  fmt::print(
      "{}: {:.2f} GB in the file; buffers {:.1f} MB by the model, {:.1f} MB held at the most, RSS grew by {:.1f} MB\n",
      file->engine_name(), static_cast<double>(file->file_bytes()) / kGiga, static_cast<double>(predicted) / 1e6,
      static_cast<double>(file->memory_use().peak_reserved) / 1e6, static_cast<double>(peak - before) / 1e6);
  fmt::print(
      "back and forth once: {:.2f} s, of which {:.2f} s waiting for tensors; {:.2f} GB/s read and as much written\n",
      seconds, waited, 2 * static_cast<double>(file->file_bytes()) / kGiga / seconds);
  return 0;
}

}  // namespace
}  // namespace krait::bench

int main(int count, char** arguments) {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "checkpoint" && count >= 3) {
    return krait::bench::measure_checkpoints(arguments[2], count > 3 ? std::atoi(arguments[3]) : 3);
  }
  if (what == "memory") return krait::bench::compare_pools();
  if (what == "offload" && count == 3) return krait::bench::measure_offload(arguments[2]);
  fmt::print(stderr, "usage: train_storage_bench checkpoint FOLDER [ROUNDS] | memory | offload FOLDER\n");
  return 2;
}
