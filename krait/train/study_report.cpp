#include "krait/train/study_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace krait::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kMissing = "–";

StudySpread spread_of(std::vector<double> values) {
  StudySpread spread{.values = std::move(values)};
  spread.least = *std::ranges::min_element(spread.values);
  spread.most = *std::ranges::max_element(spread.values);
  for (const double value : spread.values) spread.mean += value / static_cast<double>(spread.values.size());
  return spread;
}

std::string grouped(std::int64_t number) {
  const std::string digits = std::to_string(number);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

using Cells = std::vector<std::vector<std::string>>;

// The first row is the heads.
Cells cells_of(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs) {
  const std::vector<StudyColumn> columns = study_columns(variants, runs);
  Cells cells = {{"variant", "runs", "parameters", "minutes a run"}};
  for (const StudyColumn& column : columns) cells[0].push_back(column.name);
  for (std::size_t v = 0; v < variants.size(); ++v) {
    std::int64_t parameters = 0;
    std::vector<double> minutes;
    for (const StudyNumbers& run : runs) {
      if (run.variant != variants[v]) continue;
      parameters = run.parameters;
      minutes.push_back(run.seconds / 60.0);
    }
    std::vector<std::string> row = {variants[v], std::to_string(minutes.size())};
    row.push_back(minutes.empty() ? kMissing : grouped(parameters));
    row.push_back(minutes.empty() ? kMissing : fmt::format("{:.1f}", spread_of(minutes).mean));
    for (const StudyColumn& column : columns) {
      const auto& spread = column.of_variants[v];
      row.push_back(spread ? spread_text(*spread, column.is_loss) : kMissing);
    }
    cells.push_back(std::move(row));
  }
  return cells;
}

// Columns of a terminal that a text takes: its code points, none of which are wide or combine here.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

Json score_json(const StudyScore& score) {
  Json out{{"name", score.name}};
  if (score.examples > 0) out["examples"] = score.examples;
  if (score.loss) {
    out["loss"] = *score.loss;
  } else {
    out["accuracy"] = score.accuracy;
    out["exact_match"] = score.exact_match;
  }
  return out;
}

Json numbers_json(const StudyNumbers& run) {
  Json scores = Json::array();
  for (const StudyScore& score : run.scores) scores.push_back(score_json(score));
  return {{"variant", run.variant}, {"seed", run.seed},       {"steps", run.steps}, {"parameters", run.parameters},
          {"tokens", run.tokens},   {"seconds", run.seconds}, {"scores", scores}};
}

StudyNumbers numbers_of(const Json& json) {
  StudyNumbers run{.variant = json.at("variant"),
                   .seed = json.at("seed"),
                   .steps = json.at("steps"),
                   .parameters = json.at("parameters"),
                   .tokens = json.at("tokens"),
                   .seconds = json.at("seconds"),
                   .scores = {}};
  for (const Json& entry : json.at("scores")) {
    StudyScore score{.name = entry.at("name"), .examples = entry.value("examples", std::int64_t{0}), .loss = {}};
    if (entry.contains("loss")) {
      score.loss = entry.at("loss").get<double>();
    } else {
      score.accuracy = entry.at("accuracy");
      score.exact_match = entry.at("exact_match");
    }
    run.scores.push_back(std::move(score));
  }
  return run;
}

}  // namespace

std::vector<StudyColumn> study_columns(const std::vector<std::string>& variants,
                                       const std::vector<StudyNumbers>& runs) {
  std::vector<StudyColumn> columns;
  for (const StudyNumbers& run : runs) {
    for (const StudyScore& score : run.scores) {
      if (std::ranges::find(columns, score.name, &StudyColumn::name) != columns.end()) continue;
      columns.push_back({.name = score.name, .is_loss = score.loss.has_value(), .of_variants = {}});
    }
  }
  for (StudyColumn& column : columns) {
    for (const std::string& variant : variants) {
      std::vector<double> values;
      for (const StudyNumbers& run : runs) {
        const auto found = std::ranges::find(run.scores, column.name, &StudyScore::name);
        if (run.variant == variant && found != run.scores.end())
          values.push_back(found->loss.value_or(found->accuracy));
      }
      column.of_variants.push_back(values.empty() ? std::nullopt : std::optional(spread_of(std::move(values))));
    }
  }
  return columns;
}

std::string spread_text(const StudySpread& spread, bool is_loss) {
  const auto one = [&](double value) {
    return is_loss ? fmt::format("{:.4f}", value) : fmt::format("{:.2f}", 100 * value);
  };
  const std::string mean = fmt::format("{}{}", one(spread.mean), is_loss ? "" : " %");
  if (spread.values.size() < 2) return mean;
  return fmt::format("{} ({} – {})", mean, one(spread.least), one(spread.most));
}

std::string study_table(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs) {
  const Cells cells = cells_of(variants, runs);
  std::string out;
  for (const auto& row : cells) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::size_t widest = 0;
      for (const auto& other : cells) widest = std::max(widest, width_of(other[c]));
      // Names to the left, numbers to the right.
      const std::string space(widest - width_of(row[c]), ' ');
      line += c == 0 ? fmt::format("{}{}", row[c], space) : fmt::format("  {}{}", space, row[c]);
    }
    out += line;
    out += '\n';
  }
  return out;
}

std::string study_markdown(std::string_view title, const std::vector<std::string>& variants,
                           const std::vector<StudyNumbers>& runs) {
  std::string out = fmt::format("# {}\n\nMean over the seeds, and the least and the most of them.\n\n", title);
  const Cells cells = cells_of(variants, runs);
  for (std::size_t r = 0; r < cells.size(); ++r) {
    out += fmt::format("| {} |\n", fmt::join(cells[r], " | "));
    if (r > 0) continue;
    out += "| --- |";
    for (std::size_t c = 1; c < cells[0].size(); ++c) out += " ---: |";
    out += "\n";
  }
  return out;
}

std::string study_json(const std::vector<std::string>& variants, const std::vector<StudyNumbers>& runs) {
  Json of_variants = Json::array();
  const std::vector<StudyColumn> columns = study_columns(variants, runs);
  for (std::size_t v = 0; v < variants.size(); ++v) {
    Json scores = Json::object();
    for (const StudyColumn& column : columns) {
      if (!column.of_variants[v]) continue;
      const StudySpread& spread = *column.of_variants[v];
      scores[column.name] = {{column.is_loss ? "loss" : "accuracy", spread.mean},
                             {"least", spread.least},
                             {"most", spread.most},
                             {"runs", spread.values.size()}};
    }
    of_variants.push_back({{"name", variants[v]}, {"scores", scores}});
  }
  Json all = Json::array();
  for (const StudyNumbers& run : runs) all.push_back(numbers_json(run));
  return Json{{"variants", of_variants}, {"runs", all}}.dump(1) + "\n";
}

std::string record_text(const StudyRunRecord& record) {
  Json out{{"config", Json::parse(record.config)}};
  if (record.numbers) out["numbers"] = numbers_json(*record.numbers);
  return out.dump(1) + "\n";
}

Result<StudyRunRecord> parse_record(std::string_view text, const std::string& origin) {
  try {
    const Json json = Json::parse(text);
    StudyRunRecord record{.config = json.at("config").dump(), .numbers = {}};
    if (json.contains("numbers")) record.numbers = numbers_of(json.at("numbers"));
    return record;
  } catch (const Json::exception& error) {
    return fail(ErrorCode::kCorrupt, "[study] {} is no record of a run: {}", origin, error.what());
  }
}

std::string first_difference(std::string_view config, std::string_view other) {
  const auto settings = [](std::string_view text) {
    Json json = Json::parse(text);
    for (const char* key : {"evaluate", "checkpoint", "output"}) json.erase(key);
    return json.flatten();
  };
  const Json ours = settings(config), theirs = settings(other);
  const auto dotted = [](std::string pointer) {
    pointer.erase(0, 1);
    std::ranges::replace(pointer, '/', '.');
    return pointer;
  };
  for (const auto& [key, value] : ours.items()) {
    if (!theirs.contains(key) || theirs.at(key) != value) return dotted(key);
  }
  for (const auto& [key, value] : theirs.items()) {
    if (!ours.contains(key)) return dotted(key);
  }
  return {};
}

StudyEffort effort_of_log(std::string_view log) {
  StudyEffort effort;
  while (!log.empty()) {
    const std::string_view line = log.substr(0, log.find('\n'));
    log.remove_prefix(std::min(log.size(), line.size() + 1));
    const Json entry = Json::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("tokens") || !entry.contains("seconds")) continue;
    if (!entry["tokens"].is_number() || !entry["seconds"].is_number()) continue;
    effort.tokens += entry["tokens"].get<std::int64_t>();
    effort.seconds += entry["seconds"].get<double>();
  }
  return effort;
}

}  // namespace krait::train
