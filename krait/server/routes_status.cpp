// Whether the server lives, whether it takes requests, and what it counts.
#include <fmt/format.h>

#include "krait/server/metrics.h"
#include "krait/server/service.h"

namespace krait::server {
namespace {

// Who computes where, and what each lane's steps are and are believed to take.
void add_lanes(const GenerationStatistics& now, MetricsText& out) {
  const auto of_lanes = [&](auto value) {
    for (const LaneRole role : {LaneRole::mixed, LaneRole::prompts, LaneRole::decodes}) {
      out.sample(static_cast<double>(value(now.lanes[index_of(role)])), {{"lane", to_string(role)}});
    }
  };
  out.gauge("krait_core_groups", "1 for the way in which prompts and decodes have the cores now");
  out.sample(now.apart ? 0 : 1, {{"mode", "together"}});
  out.sample(now.apart ? 1 : 0, {{"mode", "apart"}});
  out.counter("krait_core_group_switches_total", "Times that this changed");
  out.sample(static_cast<double>(now.group_switches));
  out.gauge(
      "krait_core_groups_predicted_seconds",
      "What the fitted lines say of the requests as they come now, a token and the first token; a guess for a mode "
      "that has not been in use");
  for (const bool apart : {false, true}) {
    const auto& times = now.predicted_groups[apart ? 1 : 0];
    const std::string_view mode = apart ? "apart" : "together";
    out.sample(times.token_seconds, {{"mode", mode}, {"of", "token"}});
    out.sample(times.first_token_seconds, {{"mode", mode}, {"of", "first_token"}});
  }
  using Lane = GenerationStatistics::LaneUsage;
  out.gauge("krait_lane_cores", "Cores of the lanes; 0: there is none");
  of_lanes([](const Lane& lane) { return lane.cores; });
  out.gauge("krait_lane_step_cost_seconds", "The line that is fitted to each lane's steps");
  for (const LaneRole role : {LaneRole::mixed, LaneRole::prompts, LaneRole::decodes}) {
    const CostModel::Line& line = now.lanes[index_of(role)].cost;
    out.sample(line.base, {{"lane", to_string(role)}, {"part", "base"}});
    out.sample(line.row, {{"lane", to_string(role)}, {"part", "decode"}});
    out.sample(line.token, {{"lane", to_string(role)}, {"part", "prompt_token"}});
  }
  out.counter("krait_lane_steps_total", "Steps by lane");
  of_lanes([](const Lane& lane) { return lane.steps; });
  out.counter("krait_lane_step_seconds_total", "Seconds that these took");
  of_lanes([](const Lane& lane) { return lane.seconds; });
  out.counter("krait_lane_step_sequences_total", "Sequences in these, each in every step that it took part in");
  of_lanes([](const Lane& lane) { return lane.sequences; });
}

}  // namespace

void Service::health(const ExchangePtr& exchange, const std::string&) {
  exchange->respond({.body = R"({"status":"ok"})"});
}

void Service::ready(const ExchangePtr& exchange, const std::string&) {
  const GenerationStatistics now = generator_.statistics();
  const bool draining = now.draining || (server_ != nullptr && server_->draining());
  exchange->respond({.status = draining ? 503 : 200,
                     .body = fmt::format(R"({{"status":"{}","waiting":{},"predicted_wait_seconds":{}}})",
                                         draining ? "draining" : "ready", now.waiting, now.predicted_wait_seconds)});
}

void Service::metrics(const ExchangePtr& exchange, const std::string&) {
  const GenerationStatistics now = generator_.statistics();
  const auto number = [](auto value) { return static_cast<double>(value); };
  MetricsText out;
  const auto gauge = [&](std::string_view name, std::string_view help, double value) {
    out.gauge(name, help);
    out.sample(value);
  };
  const auto counter = [&](std::string_view name, std::string_view help, double value) {
    out.counter(name, help);
    out.sample(value);
  };

  out.gauge("krait_sequences", "Sequences by what they do now");
  out.sample(number(now.waiting), {{"stage", "waiting"}});
  out.sample(number(now.prefilling), {{"stage", "prefilling"}});
  out.sample(number(now.decoding), {{"stage", "decoding"}});
  out.sample(number(now.parked), {{"stage", "parked"}});
  gauge("krait_predicted_wait_seconds", "How long a request that came now would wait", now.predicted_wait_seconds);
  out.gauge("krait_step_cost_seconds", "The line that is fitted to steps: what each part of one is believed to take");
  out.sample(now.cost_base_seconds, {{"part", "base"}});
  out.sample(now.cost_decode_seconds, {{"part", "decode"}});
  out.sample(now.cost_prompt_token_seconds, {{"part", "prompt_token"}});
  add_lanes(now, out);
  gauge("krait_states_in_use", "States in the engine's memory", number(now.states_in_use));
  gauge("krait_states_capacity", "States that fit in the engine's memory", number(now.states_capacity));
  gauge("krait_state_bytes", "Bytes of one state", number(model_.engine->states().bytes_per_state()));
  gauge("krait_state_memory_bytes", "Bytes of memory that states have touched",
        number(model_.engine->states().touched_bytes()));

  gauge("krait_stored_states", "States of prompts and replies that are kept to be found again",
        number(now.stored_states));
  out.gauge("krait_stored_state_bytes", "Bytes of these, by where they are");
  out.sample(number(now.stored_memory_bytes), {{"tier", "memory"}});
  out.sample(number(now.stored_disk_bytes), {{"tier", "disk"}});
  gauge("krait_stored_states_waiting", "States that wait to be written to the disk", number(now.stored_waiting));
  counter("krait_stored_states_written_total", "States written to the disk", number(now.stored_written));

  counter("krait_requests_submitted_total", "Sequences taken", number(now.submitted));
  counter("krait_requests_refused_total", "Sequences refused because the server was busy", number(now.refused));
  counter("krait_requests_failed_total", "Sequences that failed", number(now.failed));
  counter("krait_requests_cancelled_total", "Sequences whose client went away", number(now.cancelled));
  out.counter("krait_requests_finished_total", "Sequences that ended, by why");
  for (const auto& [reason, count] : now.finished) out.sample(number(count), {{"reason", reason}});
  counter("krait_parkings_total", "Times a sequence was set aside for others", number(now.parkings));
  counter("krait_restarts_total", "Sequences that gave their state up and began again", number(now.restarts));
  counter("krait_spills_total", "Sequences whose state went to the disk for want of memory", number(now.spills));
  counter("krait_resumes_total", "Sequences whose state came back from the disk", number(now.resumes));
  counter("krait_steps_total", "Steps of the engine", number(now.steps));
  counter("krait_loop_awake_seconds_total",
          "Seconds that the threads which generate did not wait; krait_step_seconds_sum is the engine's part",
          now.awake_seconds);
  counter("krait_prompt_tokens_computed_total", "Tokens of prompts that were computed", number(now.prefill_tokens));
  counter("krait_prompt_tokens_reused_total", "Tokens of prompts that a stored state stood for",
          number(now.reused_tokens));
  counter("krait_generated_tokens_total", "Tokens written", number(now.generated_tokens));
  out.counter("krait_state_lookups_total", "Lookups in the store of states, by how they ended");
  for (const auto& [reason, count] : now.lookups) out.sample(number(count), {{"reason", reason}});
  out.counter("krait_key_tokens_total", "Tokens by key of the API");
  for (const auto& [key, usage] : now.keys) {
    out.sample(number(usage.prompt_tokens), {{"key", key}, {"kind", "prompt"}});
    out.sample(number(usage.reused_tokens), {{"key", key}, {"kind", "reused"}});
    out.sample(number(usage.generated_tokens), {{"key", key}, {"kind", "generated"}});
  }
  out.histogram("krait_queue_seconds", "From a request's coming to its beginning", now.queue_seconds);
  out.histogram("krait_first_token_seconds", "From a request's coming to its first token", now.first_token_seconds);
  out.histogram("krait_token_seconds", "Between two tokens of a sequence", now.token_seconds);
  out.histogram("krait_step_seconds", "Steps of the engine", now.step_seconds);
  out.histogram("krait_batch_sequences", "Sequences in a step", now.batch_sequences);

  const StateShelf::Totals kept = shelf_.totals(ShelfClock::now());
  gauge("krait_kept_states", "States that clients keep by id", number(kept.states));
  gauge("krait_kept_state_bytes", "Bytes of these, if nothing were shared", number(kept.bytes));
  counter("krait_kept_states_expired_total", "States whose time was over", number(kept.expired));

  if (server_ != nullptr) {
    gauge("krait_http_connections", "Open connections", number(server_->open_connections()));
  }
  {
    const std::lock_guard lock(counts_mutex_);
    out.counter("krait_http_requests_total", "Requests answered, by route and status; 0: the client was gone");
    for (const auto& [of, count] : requests_) {
      out.sample(number(count), {{"route", of.first}, {"status", std::to_string(of.second)}});
    }
    counter("krait_http_received_bytes_total", "Bytes of request bodies", number(received_bytes_));
    counter("krait_http_sent_bytes_total", "Bytes of answer bodies", number(sent_bytes_));
    counter("krait_http_disconnects_total", "Answers that their client did not wait for", number(disconnects_));
    out.histogram("krait_http_request_seconds", "From a request's head to the end of its answer", request_seconds_);
  }
  exchange->respond({.content_type = std::string(kMetricsType), .body = out.text()});
}

}  // namespace krait::server
