// What `krait top` shows: a server's present, and its rates and times between two readings of its metrics.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "krait/load/metrics_samples.h"

namespace krait::load {

struct TopView {
  using Named = std::vector<std::pair<std::string, double>>;
  double seconds = 0;  // between the readings
  Named sequences;     // by stage
  double predicted_wait = 0;
  double connections = 0;
  double generated_rate = 0, computed_rate = 0, reused_rate = 0, request_rate = 0;  // a second
  double batch = 0;                                                                 // mean sequences in a step
  double step_rate = 0;
  double engine_share = 0;               // of the time in which the loop was awake
  double first_token[3] = {-1, -1, -1};  // p50, p90, p99 in seconds; -1: none in between
  double token[3] = {-1, -1, -1};
  double queue[3] = {-1, -1, -1};
  double states_in_use = 0, states_capacity = 0, kept_states = 0, stored_states = 0;
  Named stored_bytes;  // by tier
  Named lookups;       // by reason, in between
  Named key_tokens;    // generated a second, by key, the most first
  Named statuses;      // answers by status, in between
};

TopView view_between(const MetricsSamples& before, const MetricsSamples& after, double seconds);
std::string json_text(const TopView& view);
// Lines of at most `width` columns, `height` of them at most; with escape sequences where `styled`.
std::vector<std::string> lines_of(const TopView& view, std::string_view title, std::size_t width, std::size_t height,
                                  bool styled);

}  // namespace krait::load
