// What `krait bench` measures: one model under one load, phase by phase.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "krait/models/operator_profile.h"
#include "krait/runtime/engine.h"

namespace krait::cli {

struct BenchLoad {
  std::int64_t prompt = 512;   // tokens read at once
  std::int64_t decode = 128;   // steps of one token each
  std::int64_t batch = 1;      // sequences that decode together
  std::int64_t position = -1;  // tokens in the state before the first decoded one; -1: the prompt's
  std::int64_t mixed = 0;      // tokens of another sequence's prompt read in every decode step
  int repeats = 5;
};

struct Samples {
  std::vector<double> per_second;
  bool empty() const { return per_second.empty(); }
  double median() const;
  double best() const;
  double spread() const;  // (largest - smallest) / median
};

struct BenchResult {
  Samples prefill;  // tokens a second
  Samples decode;   // tokens a second of all sequences together, prompts of the mixed load apart
  std::vector<models::OperatorCost> prefill_operators;
  std::vector<models::OperatorCost> decode_operators;
};

// Throws CommandError when interrupted. Sequences of a batch stand at different positions.
BenchResult measure(runtime::Engine& engine, const BenchLoad& load);

}  // namespace krait::cli
