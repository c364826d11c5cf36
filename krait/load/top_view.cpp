#include "krait/load/top_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace krait::load {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kShares[] = {0.5, 0.9, 0.99};

TopView::Named differences(const MetricsSamples& before, const MetricsSamples& after, std::string_view name,
                           std::string_view label) {
  TopView::Named result = after.by_label(name, label);
  const TopView::Named old = before.by_label(name, label);
  for (auto& [of, value] : result) {
    const auto same = std::ranges::find(old, of, &std::pair<std::string, double>::first);
    if (same != old.end()) value -= same->second;
  }
  return result;
}

std::string time_text(double seconds) {
  if (seconds < 0) return "-";
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1000);
  return fmt::format("{:.2f} s", seconds);
}

std::string size_text(double bytes) {
  for (const char* unit : {"B", "KiB", "MiB"}) {
    if (bytes < 1024) return fmt::format("{:.0f} {}", bytes, unit);
    bytes /= 1024;
  }
  return fmt::format("{:.1f} GiB", bytes);
}

std::string bar(double share, std::size_t cells) {
  const auto full = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(cells) + 0.5);
  return fmt::format("[{:#<{}}{:.<{}}]", "", full, "", cells - full);
}

// Names come from a server: nothing of them may act on the terminal.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) out += c >= 0x20 && c < 0x7f ? c : '?';
  return out;
}

std::string list(const TopView::Named& values, std::string_view separator = "   ") {
  std::string out;
  for (const auto& [name, value] : values) {
    out += fmt::format("{}{} {:.0f}", out.empty() ? "" : separator, printable(name), value);
  }
  return out.empty() ? "-" : out;
}

Json json_of(const TopView::Named& values) {
  Json out = Json::object();
  for (const auto& [name, value] : values) out[name] = value;
  return out;
}

Json json_of(const double (&quantiles)[3]) {
  const auto known = [](double value) { return value < 0 ? Json(nullptr) : Json(value); };
  return {{"p50", known(quantiles[0])}, {"p90", known(quantiles[1])}, {"p99", known(quantiles[2])}};
}

}  // namespace

TopView view_between(const MetricsSamples& before, const MetricsSamples& after, double seconds) {
  TopView view;
  view.seconds = seconds;
  const auto grown = [&](const std::string& name) { return after.value(name) - before.value(name); };
  const auto rate = [&](const std::string& name) { return seconds > 0 ? grown(name) / seconds : 0; };
  view.sequences = after.by_label("krait_sequences", "stage");
  view.predicted_wait = after.value("krait_predicted_wait_seconds");
  view.connections = after.value("krait_http_connections");
  view.generated_rate = rate("krait_generated_tokens_total");
  view.computed_rate = rate("krait_prompt_tokens_computed_total");
  view.reused_rate = rate("krait_prompt_tokens_reused_total");
  view.request_rate = rate("krait_http_request_seconds_count");
  view.step_rate = rate("krait_steps_total");
  const double steps = grown("krait_batch_sequences_count");
  view.batch = steps > 0 ? grown("krait_batch_sequences_sum") / steps : 0;
  const double awake = grown("krait_loop_awake_seconds_total");
  view.engine_share = awake > 0 ? grown("krait_step_seconds_sum") / awake : 0;
  for (std::size_t i = 0; i < 3; ++i) {
    view.first_token[i] = quantile_between(before, after, "krait_first_token_seconds", kShares[i]);
    view.token[i] = quantile_between(before, after, "krait_token_seconds", kShares[i]);
    view.queue[i] = quantile_between(before, after, "krait_queue_seconds", kShares[i]);
  }
  view.states_in_use = after.value("krait_states_in_use");
  view.states_capacity = after.value("krait_states_capacity");
  view.kept_states = after.value("krait_kept_states");
  view.stored_states = after.value("krait_stored_states");
  view.stored_bytes = after.by_label("krait_stored_state_bytes", "tier");
  view.lookups = differences(before, after, "krait_state_lookups_total", "reason");
  view.statuses = differences(before, after, "krait_http_requests_total", "status");
  // Samples of other kinds of tokens would be added up with these.
  for (const auto& [key, ignored] : after.by_label("krait_key_tokens_total", "key")) {
    const std::string sample = fmt::format("krait_key_tokens_total{{key=\"{}\",kind=\"generated\"}}", key);
    view.key_tokens.emplace_back(key.empty() ? "(no key)" : key, rate(sample));
  }
  std::ranges::stable_sort(view.key_tokens, std::ranges::greater(), &std::pair<std::string, double>::second);
  return view;
}

std::string json_text(const TopView& view) {
  const Json out = {{"seconds", view.seconds},
                    {"sequences", json_of(view.sequences)},
                    {"predicted_wait_s", view.predicted_wait},
                    {"connections", view.connections},
                    {"requests_per_s", view.request_rate},
                    {"generated_tokens_per_s", view.generated_rate},
                    {"prompt_tokens_computed_per_s", view.computed_rate},
                    {"prompt_tokens_reused_per_s", view.reused_rate},
                    {"steps_per_s", view.step_rate},
                    {"batch", view.batch},
                    {"engine_share", view.engine_share},
                    {"first_token_s", json_of(view.first_token)},
                    {"token_s", json_of(view.token)},
                    {"queue_s", json_of(view.queue)},
                    {"states_in_use", view.states_in_use},
                    {"states_capacity", view.states_capacity},
                    {"kept_states", view.kept_states},
                    {"stored_states", view.stored_states},
                    {"stored_bytes", json_of(view.stored_bytes)},
                    {"lookups", json_of(view.lookups)},
                    {"answers", json_of(view.statuses)},
                    {"key_tokens_per_s", json_of(view.key_tokens)}};
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> lines_of(const TopView& view, std::string_view title, std::size_t width, std::size_t height,
                                  bool styled) {
  std::vector<std::string> lines;
  const auto add = [&](std::string_view name, const std::string& text) {
    lines.push_back(fmt::format("{:<14}{}", name, text));
  };
  const auto times = [](const double(&values)[3]) {
    return fmt::format("{:>10} {:>10} {:>10}", time_text(values[0]), time_text(values[1]), time_text(values[2]));
  };
  lines.push_back(printable(title));
  add("sequences", list(view.sequences));
  add("rates", fmt::format("{:.1f} tokens/s written   {:.1f} tokens/s read   {:.1f} tokens/s found   {:.1f} requests/s",
                           view.generated_rate, view.computed_rate, view.reused_rate, view.request_rate));
  add("batch", fmt::format("{:.1f} sequences a step   {:.1f} steps/s   engine {:.0f} % of the loop", view.batch,
                           view.step_rate, view.engine_share * 100));
  add("queue",
      fmt::format("a new request waits {}   {:.0f} connections", time_text(view.predicted_wait), view.connections));
  add("", fmt::format("{:>10} {:>10} {:>10}", "p50", "p90", "p99"));
  add("waited", times(view.queue));
  add("first token", times(view.first_token));
  add("each token", times(view.token));
  const double share = view.states_capacity > 0 ? view.states_in_use / view.states_capacity : 0;
  add("states", fmt::format("{} {:.0f} of {:.0f} in use   {:.0f} kept by id   {:.0f} stored", bar(share, 20),
                            view.states_in_use, view.states_capacity, view.kept_states, view.stored_states));
  std::string tiers;
  for (const auto& [tier, bytes] : view.stored_bytes) {
    tiers += fmt::format("{}{} {}", tiers.empty() ? "" : "   ", printable(tier), size_text(bytes));
  }
  add("stored", tiers.empty() ? "-" : tiers);
  add("lookups", list(view.lookups));
  add("answers", list(view.statuses));
  for (std::size_t i = 0; i < view.key_tokens.size(); ++i) {
    add(i == 0 ? "keys" : "", fmt::format("{:<20} {:.1f} tokens/s", printable(view.key_tokens[i].first).substr(0, 20),
                                          view.key_tokens[i].second));
  }
  if (lines.size() > height) lines.resize(height);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    lines[i] = lines[i].substr(0, width);  // all of it is ASCII
    if (styled && i == 0) lines[i] = "\x1b[1m" + lines[i] + "\x1b[0m";
  }
  return lines;
}

}  // namespace krait::load
