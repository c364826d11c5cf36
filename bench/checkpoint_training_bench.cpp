// What a checkpoint costs a training run, with the real trainer:
//   checkpoint_training_bench FOLDER [WIDTH LAYERS ROWS INTERVAL ROUNDS]
// In turns, a round of INTERVAL steps each: without a checkpoint; with one that is copied beside the first step and
// written beside the others, as runs do it; with one that the first step waits for until it is committed; and in
// pieces, as runs with [memory] do. A stall is what the thread that trains waits; what the writer takes of the cores
// shows in the rounds. Minima over the rounds, which neighbours on the machine lengthen least.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "bench/value_of.h"
#include "krait/core/random.h"
#include "krait/nn/compute_threads.h"
#include "krait/train/checkpoint_writer.h"
#include "krait/train/trained_model.h"
#include "krait/train/trainer.h"

namespace krait::bench {
namespace {

constexpr std::int64_t kVocabulary = 4096;

// One sequence of random tokens after the other.
class RandomTokens final : public train::BatchSource {
 public:
  explicit RandomTokens(std::int64_t rows) : rows_(rows) {}
  Result<train::Batch> next() override {
    train::Example example;
    Random random(place_++);
    for (std::int64_t i = 0; i < rows_; ++i) {
      example.ids.push_back(static_cast<std::int32_t>(random.next() % kVocabulary));
    }
    example.labels = example.ids;
    return train::batch_of(std::span(&example, 1), rows_, 0);
  }
  std::vector<std::uint64_t> place() const override { return {place_}; }
  Result<void> seek(std::span<const std::uint64_t> place) override {
    place_ = place[0];
    return {};
  }

 private:
  std::int64_t rows_;
  std::uint64_t place_ = 1;
};

struct Cost {
  double round = 1e9, stall = 1e9;
  void take(const Cost& other) {
    round = std::min(round, other.round);
    stall = std::min(stall, other.stall);
  }
};

int measure(const std::string& folder, std::int64_t width, std::int64_t layers, std::int64_t rows, int interval,
            int rounds) {
  const auto model = value_of(train::make_model(
      {.mixers = {"mamba2"}, .vocabulary = kVocabulary, .width = width, .layers = layers, .states = 64}));
  RandomTokens source(rows);
  train::TrainerOptions options;
  options.schedule = {.peak = 1e-4, .steps = std::int64_t{1} << 40};
  train::Trainer trainer(*model, source, options);
  train::SizeClassPool memory;
  const auto writer =
      value_of(train::CheckpointWriter::open({.folder = folder, .keep_last = 1}, nn::ComputePool(), memory));
  trainer.set_before_update([&] { writer->settle(); });
  const auto providers = trainer.state_providers();
  std::vector<const train::StateProvider*> views;
  for (const auto& provider : providers) views.push_back(provider.get());
  value_of(writer->prepare(views));

  double bytes = 0.0;
  // `begin` starts a checkpoint and says how long that took.
  const auto round = [&](const std::function<double()>& begin) {
    const auto start = Clock::now();
    Cost cost{.round = 0.0, .stall = begin()};
    for (int i = 0; i < interval; ++i) value_of(trainer.step());
    cost.round = seconds_since(start);
    for (auto& report : writer->finish()) {
      value_of(report.committed);
      bytes = static_cast<double>(report.bytes);
      // That of one that is copied beside the step is in its report.
      if (cost.stall == 0.0) cost.stall = report.waited_seconds + report.snapshot_seconds;
    }
    return cost;
  };
  const auto timed = [&](const std::function<void()>& call) {
    const auto start = Clock::now();
    call();
    return seconds_since(start);
  };
  const auto finish = [&] {
    for (auto& report : writer->finish()) value_of(report.committed);
  };
  Cost plain, beside, waiting, pieces;
  for (int i = 0; i <= rounds; ++i) {
    const Cost costs[] = {round([] { return 0.0; }), round([&] {
                            value_of(writer->begin_save(trainer.steps_done(), views));
                            return 0.0;
                          }),
                          round([&] {
                            return timed([&] {
                              value_of(writer->save(trainer.steps_done(), views));
                              finish();
                            });
                          }),
                          round([&] {
                            return timed([&] {
                              value_of(writer->save_in_pieces(trainer.steps_done(), views));
                              finish();
                            });
                          })};
    if (i == 0) continue;  // the first touches everything
    plain.take(costs[0]);
    beside.take(costs[1]);
    waiting.take(costs[2]);
    pieces.take(costs[3]);
  }
  const double step = plain.round / interval;
  fmt::print("{} parameters, {:.2f} GB, {} rows a step, {} threads, a checkpoint every {} steps, {} rounds\n",
             trainer.optimiser().parameters(), bytes / 1e9, rows, nn::compute_threads(), interval, rounds);
  fmt::print("a step without checkpoints {:8.3f} s\n", step);
  const auto line = [&](const char* what, const Cost& cost) {
    fmt::print("{:<46} stall {:8.4f} s, {:6.2f} % of a step, {:6.2f} % of an interval; rounds {:+6.2f} %\n", what,
               cost.stall, 100 * cost.stall / step, 100 * cost.stall / plain.round,
               100 * (cost.round / plain.round - 1.0));
  };
  line("copied and written beside", beside);
  line("waited for", waiting);
  line("in pieces, waited for", pieces);
  fmt::print("waiting costs {:.1f} times the stall of one beside\n", waiting.stall / beside.stall);
  return 0;
}

}  // namespace
}  // namespace krait::bench

int main(int count, char** arguments) {
  if (count != 2 && count != 7) {
    fmt::print(stderr, "usage: checkpoint_training_bench FOLDER [WIDTH LAYERS ROWS INTERVAL ROUNDS]\n");
    return 2;
  }
  const auto number = [&](int i, int otherwise) { return count > i ? std::atoi(arguments[i]) : otherwise; };
  return krait::bench::measure(arguments[1], number(2, 512), number(3, 12), number(4, 1024), number(5, 5),
                               number(6, 3));
}
