// Samba (Ren et al. 2024): Mamba and sliding-window attention take turns, an MLP after each.
// Checkpoints: those of the authors' code (lit-gpt's names and configuration keys: n_embd, mb_per_layer, local_window);
// there are no others. Its rows of queries, keys and values stand together for every key head.
#include "krait/models/architectures.h"
#include "krait/models/hybrid_config.h"
#include "krait/models/mixers/feed_forward.h"
#include "krait/models/mixers/mamba1.h"

namespace krait::models {

std::unique_ptr<Model> load_samba(WeightLoader& loader) {
  ResidualConfig residual;
  residual.architecture = "samba";
  residual.layers = loader.size("n_layer");
  residual.width = loader.size("n_embd");
  residual.epsilon = static_cast<float>(loader.number_or("norm_eps", 1e-5));
  residual.tied = loader.boolean_if_present("tie_embeddings");
  const std::int64_t width = residual.width;
  const std::int64_t period = loader.size("mb_per_layer");
  AttentionDimensions attention;
  attention.width = width;
  attention.heads = loader.size("n_head");
  attention.key_heads = loader.size_or("n_query_groups", attention.heads);
  attention.head_width = loader.size_or("head_size", std::max<std::int64_t>(1, width / attention.heads));
  attention.window = loader.config().integer("local_window").value_or(-1) < 0 ? 0 : loader.size("local_window");
  const double share = loader.number_or("rotary_percentage", 1.0);
  if (!loader.boolean_or("nope", false)) {
    attention.rotary.width = static_cast<std::int64_t>(share * static_cast<double>(attention.head_width));
  }
  attention.biases = false;
  Mamba1Dimensions mamba;
  mamba.width = width;
  mamba.inner = 2 * width;
  mamba.dt_rank = (width + 15) / 16;
  const std::int64_t hidden = loader.size_or("intermediate_size", 4 * width);
  if (loader.boolean_or("bias", false) || loader.boolean_or("sc_attn", false)) {
    loader.set_error({ErrorCode::kUnsupported,
                      fmt::format("[models] bias or sc_attn is set: neither is known ({})", loader.config().origin())});
  }
  if (loader.failed()) return nullptr;
  auto model = std::make_unique<ResidualModel>(
      loader, residual, TokenHead::names(loader, "transformer.wte.weight", "transformer.ln_f.weight"));
  for (std::int64_t i = 0; i < residual.layers && !loader.failed(); ++i) {
    const WeightScope scope(loader, fmt::format("transformer.h.{}.", i), "");
    const std::string name = fmt::format("layers.{}", i);
    std::unique_ptr<Mixer> mixer;
    if (i % period == 0) {
      mixer = std::make_unique<Mamba1Mixer>(scope.inside("attn."), mamba, model->layout(), name);
    } else {
      mixer = std::make_unique<AttentionMixer>(scope.inside("attn."), attention, model->layout(), name,
                                               AttentionNames{.output = "proj", .fused = "attn"});
    }
    model->add(scope, "norm_1.weight", "", std::move(mixer));
    model->add(scope, "norm_2.weight", "",
               std::make_unique<FeedForward>(scope.inside("mlp.swiglu."), width, hidden, FeedForwardForm::kGateUp,
                                             FeedForwardActivation::kSilu,
                                             FeedForwardNames{.gate = "w1", .up = "w2", .down = "w3"}));
  }
  model->finish(loader);
  return model;
}

}  // namespace krait::models
