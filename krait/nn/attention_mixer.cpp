#include "krait/nn/attention_mixer.h"

namespace krait::nn {

AttentionMixer::AttentionMixer(const AttentionDimensions& dimensions)
    : dimensions_(dimensions.checked()), projections_(*this, dimensions_) {
  output_ =
      register_module("o_proj", std::make_shared<Dense>(dimensions_.heads * dimensions_.head_width, dimensions_.width));
}

Tensor AttentionMixer::forward(const Tensor& u, const Batch& batch) {
  const Tensor table = rotations_of(dimensions_, u, batch);
  return output_->forward(causal_attention(projections_.queries(u, table), projections_.keys(u, table),
                                           projections_.values(u), dimensions_.counts(), batch.segments,
                                           dimensions_.window, batch.prefixes));
}

}  // namespace krait::nn
