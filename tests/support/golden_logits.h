// Reference logits as they stand beside a golden checkpoint, and the model under test.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "krait/formats/weight_source.h"
#include "krait/models/registry.h"
#include "krait/runtime/session.h"

namespace krait::tests {

struct GoldenLogits {
  std::vector<std::vector<std::int32_t>> sequences;
  std::vector<std::vector<std::vector<double>>> logits;  // [sequence][position][V]
  std::vector<std::int32_t> greedy_from_first;
};

inline GoldenLogits read_golden(const std::filesystem::path& folder) {
  std::ifstream stream(folder / "logits.json");
  const auto json = nlohmann::json::parse(stream);
  GoldenLogits golden;
  if (json.contains("sequences")) {
    golden.sequences = json["sequences"].get<decltype(golden.sequences)>();
    golden.logits = json["logits"].get<decltype(golden.logits)>();
  } else {
    golden.sequences.push_back(json["ids"].get<std::vector<std::int32_t>>());
    golden.logits.push_back(json["logits"].get<std::vector<std::vector<double>>>());
  }
  if (json.contains("greedy_from_first")) {
    golden.greedy_from_first = json["greedy_from_first"].get<std::vector<std::int32_t>>();
  }
  return golden;
}

inline std::unique_ptr<runtime::Engine> open_engine(const std::filesystem::path& path, models::LoadOptions load = {},
                                                    runtime::EngineOptions options = {}) {
  auto source = formats::open_weights(path);
  if (!source) throw std::runtime_error(source.error().message);
  auto model = models::load_model(*std::move(source), load);
  if (!model) throw std::runtime_error(model.error().message);
  return std::make_unique<runtime::Engine>(*std::move(model), options);
}

inline std::vector<std::vector<float>> all_logits(runtime::Session& session, std::span<const std::int32_t> ids) {
  std::vector<std::vector<float>> rows;
  session.feed_each(ids, [&](std::int64_t, std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); });
  return rows;
}

// Logits of a checkpoint at every position, with activations as they are.
inline std::vector<std::vector<float>> logits_of(std::shared_ptr<const formats::WeightSource> source,
                                                 std::span<const std::int32_t> ids) {
  models::LoadOptions load;
  load.exact_activations = true;
  auto model = models::load_model(std::move(source), load);
  if (!model) throw std::runtime_error(model.error().message);
  runtime::Engine engine(*std::move(model), {.threads = 1});
  runtime::Session session(engine);
  return all_logits(session, ids);
}

// Of relative_error: f32 against float64 or float32 references that carry 6 to 7 digits.
inline constexpr double kF32Tolerance = 2e-5;

// The largest difference, relative to the largest |reference|.
template <class Reference>
double relative_error(const std::vector<std::vector<float>>& rows,
                      const std::vector<std::vector<Reference>>& reference) {
  EXPECT_EQ(rows.size(), reference.size());
  double largest = 0;
  double scale = 0;
  for (std::size_t t = 0; t < std::min(rows.size(), reference.size()); ++t) {
    EXPECT_EQ(rows[t].size(), reference[t].size());
    for (std::size_t i = 0; i < std::min(rows[t].size(), reference[t].size()); ++i) {
      const double expected = reference[t][i];
      const double difference = std::fabs(static_cast<double>(rows[t][i]) - expected);
      largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
      scale = std::max(scale, std::fabs(expected));
    }
  }
  return largest / scale;
}

}  // namespace krait::tests
