// What a run of load comes to: percentiles of times, rates, goodput, errors by kind, and how fairly keys were served.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "krait/load/load_run.h"

namespace krait::load {

struct Objectives {  // seconds; 0: none
  double first_token = 0;
  double token = 0;
};

struct TimesOf {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, most = 0;
};

struct LoadReport {
  double seconds = 0;  // that were counted
  std::int64_t requests = 0, answered = 0, failed = 0, abandoned = 0;
  std::int64_t prompt_tokens = 0, cached_tokens = 0, tokens = 0;
  TimesOf first_token, token, whole;
  std::int64_t good = 0;  // answered within the objectives
  std::map<std::string, std::int64_t> errors;
  std::vector<std::int64_t> tokens_by_key;
  double fairness = 1;  // Jain's index of these: (sum x)² / (n sum x²)
  double latest_start = 0;
  bool stopped = false;

  double per_second(std::int64_t count) const { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }
};

LoadReport report_of(const LoadResult& result, const LoadOptions& options, const Objectives& objectives);
TimesOf times_of(std::vector<double> values);
double jain_index(const std::vector<std::int64_t>& values);

std::string json_text(const LoadReport& report, const LoadOptions& options, const Objectives& objectives);
std::string plain_text(const LoadReport& report, const Objectives& objectives);

}  // namespace krait::load
