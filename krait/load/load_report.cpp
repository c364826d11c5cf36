#include "krait/load/load_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace krait::load {
namespace {

using Json = nlohmann::ordered_json;

// The least value that the share of all does not exceed.
double percentile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

Json json_of(const TimesOf& times) {
  return {{"mean", times.mean}, {"p50", times.p50}, {"p90", times.p90}, {"p99", times.p99}, {"max", times.most}};
}

std::string line(std::string_view name, const TimesOf& times) {
  return fmt::format("  {:<22}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}  ms\n", name, times.p50 * 1000, times.p90 * 1000,
                     times.p99 * 1000, times.most * 1000);
}

}  // namespace

TimesOf times_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.mean = sum / static_cast<double>(values.size()),
          .p50 = percentile(values, 0.5),
          .p90 = percentile(values, 0.9),
          .p99 = percentile(values, 0.99),
          .most = values.back()};
}

double jain_index(const std::vector<std::int64_t>& values) {
  double sum = 0, squares = 0;
  for (const std::int64_t value : values) {
    sum += static_cast<double>(value);
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  return squares > 0 ? sum * sum / (static_cast<double>(values.size()) * squares) : 1;
}

LoadReport report_of(const LoadResult& result, const LoadOptions& options, const Objectives& objectives) {
  LoadReport report;
  report.seconds = std::max(result.seconds - options.warmup, 0.0);
  report.abandoned = result.abandoned;
  report.stopped = result.stopped;
  report.latest_start = result.latest_start;
  report.tokens_by_key.resize(options.keys.size());
  std::vector<double> first_token, token, whole;
  for (const RequestResult& request : result.requests) {
    if (request.due < options.warmup) continue;
    ++report.requests;
    if (!request.ok()) {
      ++report.failed;
      ++report.errors[request.error];
      continue;
    }
    ++report.answered;
    report.prompt_tokens += request.prompt_tokens;
    report.cached_tokens += request.cached_tokens;
    report.tokens += request.tokens;
    report.tokens_by_key[request.key] += request.tokens;
    first_token.push_back(request.first_token());
    whole.push_back(request.whole());
    if (request.tokens > 1) token.push_back(request.token());
    const bool in_time = objectives.first_token == 0 || request.first_token() <= objectives.first_token;
    const bool fast = objectives.token == 0 || request.token() <= objectives.token;
    report.good += in_time && fast ? 1 : 0;
  }
  report.first_token = times_of(std::move(first_token));
  report.token = times_of(std::move(token));
  report.whole = times_of(std::move(whole));
  report.fairness = jain_index(report.tokens_by_key);
  return report;
}

std::string json_text(const LoadReport& report, const LoadOptions& options, const Objectives& objectives) {
  Json out = {{"seconds", report.seconds},
              {"seed", options.seed},
              {"stopped", report.stopped},
              {"requests", report.requests},
              {"answered", report.answered},
              {"failed", report.failed},
              {"abandoned", report.abandoned},
              {"errors", report.errors},
              {"requests_per_s", report.per_second(report.answered)},
              {"prompt_tokens", report.prompt_tokens},
              {"cached_tokens", report.cached_tokens},
              {"generated_tokens", report.tokens},
              {"generated_tokens_per_s", report.per_second(report.tokens)},
              {"prompt_tokens_per_s", report.per_second(report.prompt_tokens)},
              {"first_token_s", json_of(report.first_token)},
              {"token_s", json_of(report.token)},
              {"request_s", json_of(report.whole)},
              {"slo", {{"first_token_s", objectives.first_token}, {"token_s", objectives.token}}},
              {"good", report.good},
              {"goodput_per_s", report.per_second(report.good)},
              {"tokens_by_key", report.tokens_by_key},
              {"jain_index", report.fairness},
              {"latest_start_s", report.latest_start}};
  return out.dump(2);
}

std::string plain_text(const LoadReport& report, const Objectives& objectives) {
  std::string out = fmt::format("{} requests in {:.1f} s: {} answered, {} failed", report.requests, report.seconds,
                                report.answered, report.failed);
  if (report.abandoned > 0) out += fmt::format(", {} under way when it was stopped", report.abandoned);
  out += '\n';
  for (const auto& [kind, count] : report.errors) out += fmt::format("  {:<22}{:>10}\n", kind, count);
  out += fmt::format("  {:<22}{:>10}{:>10}{:>10}{:>10}\n", "", "p50", "p90", "p99", "max");
  out += line("time to first token", report.first_token);
  out += line("time per output token", report.token);
  out += line("whole request", report.whole);
  out += fmt::format(
      "  {:.2f} requests/s, {:.1f} tokens/s written, {:.1f} tokens/s of prompts ({:.0f} % from the cache)\n",
      report.per_second(report.answered), report.per_second(report.tokens), report.per_second(report.prompt_tokens),
      report.prompt_tokens > 0
          ? 100 * static_cast<double>(report.cached_tokens) / static_cast<double>(report.prompt_tokens)
          : 0.0);
  if (objectives.first_token > 0 || objectives.token > 0) {
    out += fmt::format("  goodput {:.2f} requests/s: {} of {} within the objectives\n", report.per_second(report.good),
                       report.good, report.requests);
  }
  if (report.tokens_by_key.size() > 1) out += fmt::format("  Jain's index of keys {:.4f}\n", report.fairness);
  // More than a millisecond or two means that the client was the bottleneck.
  if (report.latest_start > 0.05) {
    out += fmt::format("  the client was {:.0f} ms late with a request: it may be what was measured\n",
                       report.latest_start * 1000);
  }
  return out;
}

}  // namespace krait::load
