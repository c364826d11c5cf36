// How much of their prompts the requests of real traces would find in the state store, against its size: plain LRU
// caches and krait's own policy, the very code that the store runs (krait/runtime/prefix_index.h). Nothing is timed:
// the same counts come out everywhere.
//
//   state_store_study [FOLDER] [--json] [--svg FILE] [--sensitivity]
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <functional>
#include <string_view>

#include "bench/state_store/hit_rate_chart.h"
#include "tests/support/request_trace.h"

namespace krait::bench {
namespace {

using runtime::PrefixIndex;
using tests::LruKeeps;
using tests::Replay;
using tests::RequestTrace;

const std::vector<std::uint64_t> kCapacities = {250, 1000, 4000, 16000, 0};
constexpr std::array kTraces = {"mooncake_conversation", "mooncake_synthetic"};

struct Policy {
  std::string name;
  std::function<Replay(const RequestTrace&, std::uint64_t)> replay;
};

Policy lru(std::string name, LruKeeps keeps) {
  return {std::move(name), [keeps](const auto& trace, auto states) { return replay_lru(trace, states, keeps); }};
}

Policy krait(std::string name, const std::function<void(PrefixIndex::Options&)>& change) {
  return {std::move(name), [change](const auto& trace, auto states) {
            auto options = tests::options_in_blocks(states);
            change(options);
            return replay_index(trace, options);
          }};
}

std::vector<Policy> compared() {
  return {lru("every block, LRU", LruKeeps::every_block), lru("last block, LRU", LruKeeps::last_block),
          lru("last + junction, LRU", LruKeeps::last_and_junction), krait("krait", [](auto&) {})};
}

// One constant changed at a time, by factors.
std::vector<Policy> changed() {
  std::vector<Policy> policies = {krait("krait", [](auto&) {}),
                                  krait("no grid", [](auto& options) { options.grid_tokens = 0; })};
  for (const int states : {2, 4, 16, 32})
    policies.push_back(
        krait(fmt::format("grid_states {}", states), [=](auto& options) { options.grid_states = states; }));
  for (const int share : {2, 32, 128})
    policies.push_back(krait(fmt::format("grid_share {}", share), [=](auto& options) { options.grid_share = share; }));
  for (const int factor : {16, 4})
    policies.push_back(
        krait(fmt::format("path_tokens / {}", factor), [=](auto& options) { options.path_tokens /= factor; }));
  for (const int factor : {4, 16})
    policies.push_back(
        krait(fmt::format("path_tokens * {}", factor), [=](auto& options) { options.path_tokens *= factor; }));
  return policies;
}

HitRates measure(const std::string& name, const RequestTrace& trace, const std::vector<Policy>& policies) {
  HitRates rates{name, {}};
  for (const auto& policy : policies) {
    rates.lines.push_back({policy.name, {}});
    for (const std::uint64_t states : kCapacities) {
      const std::uint64_t capacity = states == 0 ? PrefixIndex::kUnlimited : states;
      rates.lines.back().rates.push_back(policy.replay(trace, capacity).hit_rate);
    }
  }
  return rates;
}

void print_table(const HitRates& rates) {
  fmt::print("{}, share of prompt tokens found\n| {:20} |", rates.trace, "states");
  for (const std::uint64_t states : kCapacities)
    fmt::print(" {:>8} |", states == 0 ? "no limit" : std::to_string(states));
  fmt::print("\n|{:-<22}|{}\n", "", "---------:|---------:|---------:|---------:|---------:|");
  for (const auto& line : rates.lines) {
    fmt::print("| {:20} |", line.policy);
    for (const double rate : line.rates) fmt::print(" {:8.4f} |", rate);
    fmt::print("\n");
  }
  fmt::print("\n");
}

int run(std::vector<std::string_view> arguments) {
  std::filesystem::path folder = "../shared/data/traces";
  std::filesystem::path chart;
  bool json = false;
  bool sensitivity = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--json") {
      json = true;
    } else if (arguments[i] == "--sensitivity") {
      sensitivity = true;
    } else if (arguments[i] == "--svg" && i + 1 < arguments.size()) {
      chart = arguments[++i];
    } else if (arguments[i].starts_with("-")) {
      fmt::print(stderr, "usage: state_store_study [FOLDER] [--json] [--svg FILE] [--sensitivity]\n");
      return 2;
    } else {
      folder = arguments[i];
    }
  }
  std::vector<HitRates> all;
  for (const std::string name : kTraces)
    all.push_back(
        measure(name, tests::read_request_trace(folder / (name + ".jsonl")), sensitivity ? changed() : compared()));
  if (json) {
    nlohmann::ordered_json out = {{"block_tokens", tests::kBlockTokens}, {"states", kCapacities}};
    for (const auto& rates : all)
      for (const auto& line : rates.lines) out["hit_rates"][rates.trace][line.policy] = line.rates;
    fmt::print("{}\n", out.dump(2));
  } else {
    for (const auto& rates : all) print_table(rates);
  }
  if (!chart.empty()) {
    std::ofstream file(chart);
    file << hit_rate_chart(kCapacities, all);
    if (!file.flush()) throw std::runtime_error("cannot write " + chart.string());
  }
  return 0;
}

}  // namespace
}  // namespace krait::bench

int main(int count, char** arguments) {
  try {
    return krait::bench::run({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    fmt::print(stderr, "state_store_study: {}\n", error.what());
    return 1;
  }
}
