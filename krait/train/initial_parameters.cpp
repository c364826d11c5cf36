#include "krait/train/initial_parameters.h"

#include <algorithm>
#include <map>
#include <optional>
#include <span>

#include "krait/formats/weight_source.h"
#include "krait/nn/compute_threads.h"
#include "krait/train/checkpoint_reader.h"

namespace krait::train {
namespace {

// Tensors of another run by the names that parameters have in a module. Views live as long as this does.
struct EarlierRun {
  std::string origin;
  std::optional<Checkpoint> checkpoint;
  std::unique_ptr<formats::WeightSource> exported;
  std::map<std::string, TensorView> tensors;
};

Result<EarlierRun> open_checkpoint(const std::filesystem::path& folder) {
  KRAIT_ASSIGN(NewestCheckpoint newest, open_newest_checkpoint(folder, nn::ComputePool()));
  EarlierRun run;
  run.origin = fmt::format("step {} of {}", newest.checkpoint.step(), folder.string());
  run.checkpoint.emplace(std::move(newest.checkpoint));
  constexpr std::string_view kAveraged = "averages/", kPlain = "parameters/";
  const auto tensors = run.checkpoint->tensors();
  const bool averaged =
      std::ranges::any_of(tensors, [&](const auto& tensor) { return tensor.name.starts_with(kAveraged); });
  const std::string_view provider = averaged ? kAveraged : kPlain;
  for (const formats::TensorInfo& tensor : tensors) {
    if (!tensor.name.starts_with(provider)) continue;
    KRAIT_ASSIGN(const TensorView view, run.checkpoint->view(tensor.name));
    run.tensors.emplace(tensor.name.substr(provider.size()), view);
  }
  return run;
}

Result<EarlierRun> open_exported(const std::filesystem::path& folder) {
  EarlierRun run;
  KRAIT_ASSIGN(run.exported, formats::open_weights(folder));
  run.origin = folder.string();
  for (const formats::TensorInfo& tensor : run.exported->tensors()) {
    KRAIT_ASSIGN(const TensorView view, run.exported->view(tensor.name));
    // What transformers calls the table of Mamba and Mamba-2 (export_model.cpp).
    const bool plural = tensor.name == "backbone.embeddings.weight";
    run.tensors.emplace(plural ? "backbone.embedding.weight" : tensor.name, view);
  }
  return run;
}

Result<EarlierRun> open_run(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return fail(ErrorCode::kNotFound, "[model] from: there is no folder {}", folder.string());
  }
  if (const auto inner = folder / "checkpoints"; std::filesystem::is_directory(inner, error)) {
    return open_checkpoint(inner);
  }
  if (std::filesystem::exists(folder / "config.json", error)) return open_exported(folder);
  return open_checkpoint(folder);
}

bool begins_with_any(std::string_view name, std::span<const std::string> beginnings) {
  return std::ranges::any_of(beginnings, [&](const std::string& beginning) { return name.starts_with(beginning); });
}

// Every name in `fresh` is somebody's.
Result<void> check_fresh(const torch::nn::Module& module, const EarlierRun& run, std::span<const std::string> fresh) {
  for (const std::string& beginning : fresh) {
    const std::span one(&beginning, 1);
    const auto parameters = module.named_parameters();
    const bool known =
        std::ranges::any_of(parameters, [&](const auto& of) { return begins_with_any(of.key(), one); }) ||
        std::ranges::any_of(run.tensors, [&](const auto& of) { return begins_with_any(of.first, one); });
    if (!known) {
      return fail(ErrorCode::kInvalidArgument, "[model] fresh: no parameter's name begins with '{}'", beginning);
    }
  }
  return {};
}

}  // namespace

InitialParameters read_initial_parameters(ConfigTable model, const std::filesystem::path& base) {
  InitialParameters initial;
  std::string from;
  model.read("from", from);
  model.read("fresh", initial.fresh);
  if (!from.empty()) initial.from = base / from;
  if (from.empty() && !initial.fresh.empty())
    model.wrong("fresh", "says what begins anew, but nothing is taken `from`");
  return initial;
}

Result<TakenParameters> take_parameters(torch::nn::Module& module, const InitialParameters& initial) {
  KRAIT_ASSIGN(EarlierRun run, open_run(initial.from));
  KRAIT_TRY(check_fresh(module, run, initial.fresh));
  TakenParameters result{.origin = run.origin};
  std::vector<std::string> misfits;
  std::vector<std::pair<at::Tensor, TensorView>> matched;
  for (const auto& parameter : module.named_parameters()) {
    const auto found = run.tensors.find(parameter.key());
    if (begins_with_any(parameter.key(), initial.fresh)) {
      ++result.anew;
    } else if (found == run.tensors.end()) {
      misfits.push_back(fmt::format("{} {} is not there", parameter.key(), to_string(parameter.value().sizes().vec())));
    } else if (!std::ranges::equal(found->second.shape, parameter.value().sizes())) {
      misfits.push_back(fmt::format("{} is {} there, {} here", parameter.key(), to_string(found->second.shape),
                                    to_string(parameter.value().sizes().vec())));
    } else {
      matched.emplace_back(parameter.value(), found->second);
    }
    if (found != run.tensors.end()) run.tensors.erase(found);
  }
  for (const auto& [name, view] : run.tensors) {
    if (!begins_with_any(name, initial.fresh)) {
      misfits.push_back(fmt::format("{} {} is not in this model", name, to_string(view.shape)));
    }
  }
  if (!misfits.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "[model] these parameters do not fit those of {}; `fresh` lists names that begin anew: {}", run.origin,
                fmt::join(misfits, "; "));
  }
  for (const auto& [tensor, view] : matched) {
    KRAIT_TRY(formats::read_as_f32(view, {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())}));
  }
  result.taken = static_cast<std::int64_t>(matched.size());
  return result;
}

}  // namespace krait::train
