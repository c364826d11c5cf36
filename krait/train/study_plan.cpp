#include "krait/train/study_plan.h"

#include <algorithm>
#include <array>
#include <limits>

namespace krait::train {
namespace {

constexpr std::size_t kMostRuns = 10000;

bool names_a_folder(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '+' || c == '.';
  };
  return !name.empty() && name.size() <= 100 && name.front() != '.' && std::ranges::all_of(name, fits);
}

// What the study itself sets: nothing else may.
void refuse_what_the_study_sets(ConfigTable table) {
  for (const auto& [name, key] : {std::pair("model", "seed"), {"data", "seed"}}) {
    ConfigTable inner = table.table(name);
    if (inner.has(key)) inner.wrong(key, "is told by 'seeds' in [study]");
  }
}

}  // namespace

bool is_study(ConfigFile& file) { return file.root().has("study"); }

Result<StudyPlan> expand_study(ConfigFile& file) {
  StudyPlan plan;
  ConfigTable study = file.table("study"), output = file.table("output");
  output.require("folder");
  output.read("folder", plan.folder);
  study.require("seeds");
  study.read("seeds", plan.seeds, 0, std::numeric_limits<std::int64_t>::max());
  if (study.has("seeds") && plan.seeds.empty()) study.wrong("seeds", "names none");
  for (const std::int64_t seed : plan.seeds) {
    if (std::ranges::count(plan.seeds, seed) > 1) study.wrong("seeds", fmt::format("has {} twice", seed));
  }
  for (const std::string& key : study.keys()) {
    if (key != "seeds" && key != "variant") study.wrong(key, "is nothing that a study has: it has seeds, variant");
  }
  refuse_what_the_study_sets(file.root());
  std::vector<ConfigTable> variants = study.tables("variant");
  for (ConfigTable& variant : variants) {
    std::string name;
    variant.require("name");
    variant.read("name", name);
    if (variant.has("name") && !names_a_folder(name)) {
      variant.wrong("name", fmt::format("is '{}': it names a folder, of letters, digits and _ - + .", name));
    }
    if (std::ranges::find(plan.variants, name) != plan.variants.end()) {
      variant.wrong("name", fmt::format("is '{}', as of another variant", name));
    }
    plan.variants.push_back(std::move(name));
    refuse_what_the_study_sets(variant);
    ConfigTable folder = variant.table("output");
    if (folder.has("folder")) folder.wrong("folder", "is the study's: each run has a folder in it");
    if (variant.has("study")) variant.wrong("study", "is no setting of a run");
  }
  if (variants.empty()) plan.variants = {"base"};
  if (plan.variants.size() * plan.seeds.size() > kMostRuns) {
    study.wrong("seeds", fmt::format("and variants make {} runs, more than {}",
                                     plan.variants.size() * plan.seeds.size(), kMostRuns));
  }
  KRAIT_TRY(file.errors());
  for (const std::int64_t seed : plan.seeds) {
    for (std::size_t i = 0; i < plan.variants.size(); ++i) {
      StudyRun run{.variant = plan.variants[i], .seed = seed, .config = file.copy()};
      run.config.remove("study");
      constexpr std::array<std::string_view, 1> kOwn = {"name"};
      if (i < variants.size()) run.config.put_over(variants[i], kOwn);
      run.config.put("model.seed", seed);
      run.config.put("data.seed", seed);
      run.config.put("output.folder", plan.folder + "/" + run.name());
      plan.runs.push_back(std::move(run));
    }
  }
  return plan;
}

}  // namespace krait::train
