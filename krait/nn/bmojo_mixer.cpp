#include "krait/nn/bmojo_mixer.h"

#include "krait/nn/bmojo_attention.h"
#include "krait/nn/prefix_rows.h"

namespace krait::nn {

BmojoMixer::BmojoMixer(const BmojoDimensions& dimensions, std::shared_ptr<Mixer> fading, const std::string& fading_name)
    : dimensions_(dimensions) {
  dimensions_.attention = dimensions.attention.checked();
  const AttentionDimensions& attention = dimensions_.attention;
  if (attention.window < 1 || dimensions.eidetic < 0 || fading == nullptr) {
    throw UserError(fmt::format("B'MOJO with a window of {}, a store of {} and {} fading mixer", attention.window,
                                dimensions.eidetic, fading == nullptr ? "no" : "a"),
                    "it has a window and a mixer, and perhaps a store");
  }
  fading_ = register_module(fading_name, std::move(fading));
  // One level down, as checkpoints have it.
  const auto heads = register_module("bmojo_attn", std::make_shared<torch::nn::Module>());
  near_ = AttentionProjections(*heads, attention);
  far_ = dimensions.tied ? near_ : AttentionProjections(*heads, attention, "_");
  output_ = heads->register_module("o_proj",
                                   std::make_shared<Dense>(attention.heads * attention.head_width, attention.width));
}

Tensor BmojoMixer::forward(const Tensor& u, const Batch& batch) {
  if (has_prefixes(batch)) {
    throw UserError("B'MOJO on a batch with prefixes", "its layers are trained on causal batches");
  }
  const AttentionDimensions& attention = dimensions_.attention;
  const Tensor f = fading_->forward(u, batch), table = rotations_of(attention, u, batch);
  const BmojoRows near = {.q = near_.queries(u, table), .k = near_.keys(u, table), .v = near_.values(u)};
  const BmojoRows far = {
      .q = dimensions_.tied ? near.q : far_.queries(u, table), .k = far_.keys(f, table), .v = far_.values(f)};
  return output_->forward(
      bmojo_attention({.heads = attention.counts(), .window = attention.window, .eidetic = dimensions_.eidetic}, near,
                      far, batch.segments));
}

}  // namespace krait::nn
