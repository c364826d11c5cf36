#include "krait/train/trained_model.h"

#include <ATen/Context.h>
#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "krait/nn/attention_mixer.h"
#include "krait/nn/bmojo_mixer.h"
#include "krait/nn/gated_delta_mixer.h"
#include "krait/nn/hax_mixer.h"
#include "krait/nn/mamba1_mixer.h"
#include "krait/nn/mamba2_mixer.h"
#include "krait/nn/mamba3_mixer.h"
#include "krait/train/seeded_generator.h"

namespace krait::train {
namespace {

using MakeMixer = std::shared_ptr<nn::Mixer> (*)(const TrainedModelOptions& options);

struct KnownMixer {
  std::string_view name;
  MakeMixer make;
};

nn::Mamba1Dimensions mamba_dimensions(const TrainedModelOptions& of) {
  return {.width = of.width, .inner = of.expand * of.width, .states = of.mamba_states(), .conv_width = of.conv_width};
}

nn::AttentionDimensions attention_dimensions(const TrainedModelOptions& of) {
  return {.width = of.width,
          .heads = of.attention_heads(),
          .head_width = of.head_width,
          .window = of.window,
          .rotary = {.width = of.rotary}};
}

std::shared_ptr<nn::Mixer> make_fading(const TrainedModelOptions& options);

constexpr std::array kMixers = {
    KnownMixer{"mamba",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::Mamba1Mixer>(mamba_dimensions(of));
               }},
    KnownMixer{"mamba2",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::Mamba2Mixer>(nn::Mamba2Dimensions{.width = of.width,
                                                                               .inner = of.expand * of.width,
                                                                               .head_width = of.head_width,
                                                                               .states = of.ssd_states(),
                                                                               .groups = of.groups,
                                                                               .conv_width = of.conv_width});
               }},
    KnownMixer{"mamba3",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::Mamba3Mixer>(nn::Mamba3Dimensions{.width = of.width,
                                                                               .inner = of.expand * of.width,
                                                                               .head_width = of.head_width,
                                                                               .states = of.ssd_states(),
                                                                               .groups = of.groups});
               }},
    // A state of its own size: heads of head_width by head_width, as many as the inner width has.
    KnownMixer{"gated_delta",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::GatedDeltaMixer>(nn::GatedDeltaDimensions{.width = of.width,
                                                                                       .key_heads = of.inner_heads(),
                                                                                       .key_width = of.head_width,
                                                                                       .conv_width = of.conv_width});
               }},
    KnownMixer{"attention",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::AttentionMixer>(attention_dimensions(of));
               }},
    KnownMixer{"bmojo",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 nn::BmojoDimensions dimensions = {.attention = attention_dimensions(of), .eidetic = of.eidetic};
                 if (of.window == 0) dimensions.attention.window = 64;
                 return std::make_shared<nn::BmojoMixer>(dimensions, make_fading(of),
                                                         of.fading == "gated_delta" ? "gdn" : "mamba");
               }},
    KnownMixer{"hax",
               [](const TrainedModelOptions& of) -> std::shared_ptr<nn::Mixer> {
                 return std::make_shared<nn::HaxMixer>(nn::HaxDimensions{.mamba = mamba_dimensions(of),
                                                                         .hashes = of.hashes,
                                                                         .recent = of.recent_keys,
                                                                         .selected = of.selected_keys,
                                                                         .ranking_weight = of.ranking_weight});
               }},
};

// Null for one that bmojo does not have.
std::shared_ptr<nn::Mixer> make_fading(const TrainedModelOptions& options) {
  const auto known = fading_mixer_names();
  if (std::ranges::find(known, options.fading) == known.end()) return nullptr;
  return std::ranges::find(kMixers, options.fading, &KnownMixer::name)->make(options);
}

}  // namespace

std::vector<std::string_view> fading_mixer_names() { return {"mamba", "mamba2", "gated_delta"}; }

std::vector<std::string> mixer_names() {
  std::vector<std::string> names;
  for (const KnownMixer& mixer : kMixers) names.emplace_back(mixer.name);
  return names;
}

Result<std::shared_ptr<nn::LanguageModel>> make_model(const TrainedModelOptions& options,
                                                      const nn::LanguageModel::MadePart& made) {
  std::vector<MakeMixer> pattern;
  for (const std::string& name : options.mixers) {
    const auto* found = std::ranges::find(kMixers, name, &KnownMixer::name);
    if (found == kMixers.end()) {
      return fail(ErrorCode::kInvalidArgument, "[train] no mixer '{}': {}", name, fmt::join(mixer_names(), ", "));
    }
    pattern.push_back(found->make);
  }
  if (pattern.empty()) return fail(ErrorCode::kInvalidArgument, "[train] a model has one mixer at least");
  const SeededGenerator generator(options.seed);
  const std::int64_t padding = std::max<std::int64_t>(1, options.padding);
  try {
    return std::make_shared<nn::LanguageModel>(
        nn::LanguageModelDimensions{.vocabulary = options.vocabulary,
                                    .padded_vocabulary = (options.vocabulary + padding - 1) / padding * padding,
                                    .width = options.width,
                                    .layers = options.layers,
                                    .feed_forward = options.feed_forward,
                                    .tied = options.tied},
        [&](std::int64_t layer) { return pattern[static_cast<std::size_t>(layer) % pattern.size()](options); }, made);
  } catch (const UserError& wrong) {
    return fail(ErrorCode::kInvalidArgument, "[train] {}: {}", wrong.what(), wrong.hint());
  }
}

}  // namespace krait::train
