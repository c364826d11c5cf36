// Puts load on a server of OpenAI's API and notes what becomes of every request. One thread, no blocking calls: the
// client must not be what is measured.
//
// Requests come in an open loop (at their times, whoever is still being answered), in a closed loop (so many at a time,
// the next when one is over), or as a trace has them. All times count from when a request was due, not from when a
// connection was found for it: a server that stalls would otherwise be asked less and look better ("coordinated
// omission", Tene 2013).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "krait/load/arrivals.h"
#include "krait/load/http_client.h"
#include "krait/load/request_trace.h"
#include "krait/load/spread.h"

namespace krait::load {

struct LoadOptions {
  ServerAddress server;
  std::string model;  // of the server; empty: not named
  bool chat = false;
  std::vector<std::string> keys = {""};  // in turns, a conversation each

  std::int64_t concurrency = 0;           // > 0: a closed loop
  std::vector<TracedRequest> trace = {};  // not empty: these, at their times
  double time_scale = 1;                  // of the trace: 0.5 is twice as fast
  double length_scale = 1;
  ArrivalOptions arrivals;  // else

  Spread prompt{128};  // tokens
  Spread reply{64};
  std::int64_t turns = 1;  // of a conversation, whose past goes along
  Spread think{0};         // seconds before the next turn
  double temperature = 1;

  double seconds = 30;        // no request is due after that
  std::int64_t requests = 0;  // 0: as many as come
  double warmup = 0;          // requests due before that are not counted
  double timeout = 120;       // of a request
  std::uint64_t seed = 1;
};

struct RequestResult {
  double due = 0;         // seconds since the start
  double first = -1;      // the first text
  double last = -1;       // the last text
  double end = 0;         // the end of the answer
  std::size_t key = 0;    // of LoadOptions::keys
  std::int64_t turn = 0;  // from 0
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;
  std::int64_t tokens = 0;
  std::string error;  // its kind; empty: it was answered

  bool ok() const { return error.empty(); }
  double first_token() const { return first - due; }
  double token() const { return tokens > 1 ? (last - first) / static_cast<double>(tokens - 1) : 0; }
  double whole() const { return end - due; }
};

struct LoadProgress {
  double seconds = 0;
  std::int64_t begun = 0, running = 0, waiting = 0, answered = 0, failed = 0, tokens = 0;
};

struct LoadResult {
  std::vector<RequestResult> requests;  // that are over, as they ended
  double seconds = 0;
  std::int64_t abandoned = 0;  // when it was stopped
  bool stopped = false;
  double latest_start = 0;  // how late a request was sent at most: large when the client itself could not keep up
};

// `tick` is called several times a second; false stops.
Result<LoadResult> run_load(const LoadOptions& options, const std::function<bool(const LoadProgress&)>& tick);

}  // namespace krait::load
