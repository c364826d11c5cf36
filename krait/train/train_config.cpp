#include "krait/train/train_config.h"

#include <algorithm>
#include <cmath>

namespace krait::train {
namespace {

constexpr double kMostWeight = 1e9;

std::vector<TokenSourceConfig> read_sources(ConfigTable& data, std::string_view key) {
  std::vector<TokenSourceConfig> sources;
  for (ConfigTable& table : data.tables(key)) {
    TokenSourceConfig source;
    source.name = fmt::format("{} {}", key, sources.size() + 1);
    table.read("name", source.name);
    table.require("tokens");
    table.read("tokens", source.tokens);
    table.read("weight", source.weight, 1e-9, kMostWeight);
    if (table.has("tokens") && source.tokens.empty()) table.wrong("tokens", "names nothing");
    sources.push_back(std::move(source));
  }
  return sources;
}

void read_data(ConfigTable data, TrainDataConfig& config) {
  data.read("batch", config.loader.batch, 1, 1 << 20);
  data.read("length", config.loader.length, 1, 1 << 24);
  data.read("piece", config.piece, 1, 1 << 24);
  data.read("seed", config.loader.seed);
  data.read("shuffle", config.loader.shuffle);
  config.sources = read_sources(data, "source");
  config.validation = read_sources(data, "validation");
}

void read_tokenizer(ConfigTable table, TrainDataConfig& config) {
  TokenizerTrainingOptions& training = config.tokenizer_training;
  table.read("path", config.tokenizer);
  table.read("vocabulary", training.vocabulary, 1, formats::Vocabulary::kMaxId);
  table.read("special", training.special_tokens);
  table.read("split", training.split);
  table.read("least_count", training.least_count, 1, std::int64_t{1} << 62);
  if (const auto trainer = TokenizerTrainer::make(training); !table.empty() && !trainer) {
    table.wrong("vocabulary", fmt::format("makes no tokenizer: {}", trainer.error().message));
  }
}

// The kind that `name` names, or nothing after a note.
template <class Kind>
const Kind* read_kind(ConfigTable& table, std::span<const Kind* const> kinds) {
  std::vector<std::string_view> names;
  for (const Kind* kind : kinds) names.push_back(kind->name);
  std::string name;
  table.require("name");
  table.read("name", name, names);
  const auto found = std::ranges::find(kinds, name, &Kind::name);
  return found == kinds.end() ? nullptr : *found;
}

void read_task(ConfigTable table, const std::filesystem::path& base, TrainDataConfig& config) {
  if (table.empty()) return;
  const TaskKind* kind = read_kind(table, task_kinds());
  if (kind == nullptr) return;
  TaskConfig task{.name = std::string(kind->name), .values = {}};
  for (const TaskParameter& parameter : kind->parameters) {
    std::int64_t value = parameter.value;
    table.read(parameter.name, value, parameter.low, parameter.high);
    task.values.emplace(parameter.name, value);
  }
  for (const TaskPath& path : kind->paths) {
    std::string file;
    table.read(path.name, file);
    if (!file.empty()) task.paths.emplace(path.name, base / file);
  }
  table.read("examples", task.view.examples, 0, std::int64_t{1} << 40);
  table.read("bidirectional", task.view.bidirectional);
  table.read("pooled", task.view.pooled);
  if (const auto made = make_task(task); !made) table.wrong("name", made.error().message);
  config.task = std::move(task);
}

void read_objective(ConfigTable table, TrainDataConfig& config) {
  const ObjectiveKind* kind = read_kind(table, objective_kinds());
  if (kind == nullptr) return;
  ObjectiveConfig objective{std::string(kind->name), 1, {}};
  table.read("weight", objective.weight, 0, kMostWeight);
  for (const ObjectiveParameter& parameter : kind->parameters) {
    double value = parameter.value;
    table.read(parameter.name, value, parameter.low, parameter.high);
    if (parameter.whole && value != std::floor(value)) {
      table.wrong(parameter.name, fmt::format("is {}, no whole number", value));
    }
    objective.values.emplace(parameter.name, value);
  }
  config.objectives.push_back(std::move(objective));
}

}  // namespace

Result<std::shared_ptr<const Task>> make_task(const TaskConfig& config) {
  KRAIT_ASSIGN(std::shared_ptr<const Task> task, make_task(config.name, config.values, config.paths));
  return view_task(std::move(task), config.view);
}

TrainDataConfig read_train_data_config(ConfigFile& file) {
  TrainDataConfig config;
  read_data(file.table("data"), config);
  read_tokenizer(file.table("tokenizer"), config);
  read_task(file.table("task"), std::filesystem::path(file.origin()).parent_path(), config);
  ConfigTable root = file.root();
  for (ConfigTable& table : root.tables("objective")) read_objective(std::move(table), config);
  return config;
}

Result<std::vector<DataSource>> open_sources(std::span<const TokenSourceConfig> sources) {
  std::vector<DataSource> opened;
  for (const TokenSourceConfig& source : sources) {
    const std::vector<std::filesystem::path> paths(source.tokens.begin(), source.tokens.end());
    KRAIT_ASSIGN(TokenCorpus corpus, TokenCorpus::open(paths));
    opened.push_back({source.name, std::move(corpus), source.weight});
  }
  return opened;
}

}  // namespace krait::train
