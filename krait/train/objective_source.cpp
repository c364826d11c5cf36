#include "krait/train/objective_source.h"

#include <algorithm>
#include <map>

#include "krait/formats/content_identity.h"
#include "krait/formats/tokenizer.h"
#include "krait/train/data_tokenizer.h"

namespace krait::train {
namespace {

const ObjectiveKind& kind_of(const ObjectiveConfig& config) {
  // The reader of the configuration lets no other name pass.
  return **std::ranges::find(objective_kinds(), config.name, &ObjectiveKind::name);
}

Result<ObjectiveTokens> open_tokens(const TrainDataConfig& config, const std::string& objective,
                                    const TokenCorpus& corpus) {
  if (config.tokenizer.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[objective] {} writes special tokens: [tokenizer] path names the tokenizer.json that has them",
                objective);
  }
  KRAIT_ASSIGN(const auto tokenizer, open_tokenizer_json(config.tokenizer));
  KRAIT_ASSIGN(const ObjectiveTokens tokens, find_objective_tokens(*tokenizer));
  const bool known = !(corpus.tokenizer() == Hash128{});
  if ((known && formats::tokenizer_identity(*tokenizer) != corpus.tokenizer()) ||
      tokenizer->size() > corpus.vocabulary()) {
    return fail(ErrorCode::kInvalidArgument,
                "[objective] the shards were not made with {} ({} tokens, theirs {}): krait prepare --tokenizer",
                config.tokenizer, tokenizer->size(), corpus.vocabulary());
  }
  return tokens;
}

}  // namespace

Result<std::vector<WeightedObjective>> open_objectives(const TrainDataConfig& config, const TokenCorpus& corpus) {
  ObjectiveTokens tokens;
  const auto writes = [](const ObjectiveConfig& objective) { return kind_of(objective).writes_special_tokens; };
  if (const auto first = std::ranges::find_if(config.objectives, writes); first != config.objectives.end()) {
    KRAIT_ASSIGN(tokens, open_tokens(config, first->name, corpus));
  }
  std::map<std::string, int> seen;
  std::vector<WeightedObjective> objectives;
  for (const ObjectiveConfig& objective : config.objectives) {
    KRAIT_ASSIGN(auto made, make_objective(objective.name, objective.values, tokens));
    const int number = ++seen[objective.name];
    objectives.push_back({number == 1 ? objective.name : fmt::format("{} {}", objective.name, number), std::move(made),
                          objective.weight, objective.values});
  }
  return objectives;
}

Result<std::unique_ptr<ObjectiveSource>> open_objective_source(const TrainDataConfig& config,
                                                               std::vector<DataSource> sources) {
  KRAIT_TRY(check_sources(sources, config.loader.padding));
  KRAIT_ASSIGN(std::vector<WeightedObjective> objectives, open_objectives(config, sources.front().corpus));
  const DataLoaderOptions& rows = config.loader;
  KRAIT_ASSIGN(ObjectiveLoader loader, ObjectiveLoader::make(std::move(sources), std::move(objectives),
                                                             {.batch = rows.batch,
                                                              .length = rows.length,
                                                              .piece = config.piece,
                                                              .seed = rows.seed,
                                                              .padding = rows.padding,
                                                              .rank = rows.rank,
                                                              .ranks = rows.ranks}));
  return std::make_unique<ObjectiveSource>(std::move(loader));
}

Result<std::vector<HeldOutObjective>> open_held_out(const TrainDataConfig& config, const ObjectiveSource& source,
                                                    std::int64_t pieces) {
  if (config.validation.empty()) return std::vector<HeldOutObjective>();
  KRAIT_ASSIGN(std::vector<DataSource> sources, open_sources(config.validation));
  if (sources.front().corpus.tokenizer() != source.loader().corpus().tokenizer()) {
    return fail(ErrorCode::kInvalidArgument, "[data] the shards of validation were made with another tokenizer");
  }
  return hold_out(std::move(sources), source.loader().objectives(),
                  {.batch = config.loader.batch,
                   .length = config.loader.length,
                   .piece = config.piece,
                   .pieces = pieces,
                   .padding = config.loader.padding});
}

}  // namespace krait::train
