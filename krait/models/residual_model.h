// The shape that most language models here share:
//   residual = embedding(tokens) * embedding_scale
//   for every part of every layer: residual += residual_scale * mixer(rms_norm(residual))
//   hidden = rms_norm(residual); the logit divisor stands in the head
// The residual is f32 throughout. A model file adds its mixers (and MLPs, which are mixers as well) in order; what they
// compute is in mixers/. Models whose parts read more than the residual have a forward pass of their own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "krait/models/mixers/mixer.h"
#include "krait/models/model.h"
#include "krait/models/token_head.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

struct ResidualConfig {
  std::string architecture;
  std::int64_t layers = 0;
  std::int64_t width = 0;    // D
  float epsilon = 1e-5F;     // of all norms outside mixers
  std::optional<bool> tied;  // head and embedding, where the configuration says so
  float embedding_scale = 1.0F;
  float residual_scale = 1.0F;
  float logit_scale = 1.0F;
  bool norms_from_one = false;  // norms store w - 1
};

class ResidualModel final : public Model {
 public:
  ResidualModel(WeightLoader& loader, ResidualConfig config, const TokenHead::Names& names);

  // Appends residual += mixer(norm(residual)); `norm` [D] names a tensor of the scope.
  void add(const WeightScope& scope, std::string_view norm, std::string_view gguf_norm, std::unique_ptr<Mixer> mixer);
  StateLayout& layout() { return state_layout_; }
  // After the last mixer.
  void finish(WeightLoader& loader);

  void forward(Step& step, kernels::RowsOut hidden) const override;

 private:
  struct Part {
    const float* norm;
    std::unique_ptr<Mixer> mixer;
  };

  ResidualConfig config_;
  TokenHead ends_;
  std::vector<Part> parts_;
  LoadedWeights weights_;
};

}  // namespace krait::models
