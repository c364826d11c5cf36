#include "krait/models/residual_model.h"

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"

namespace krait::models {

ResidualModel::ResidualModel(WeightLoader& loader, ResidualConfig config, const TokenHead::Names& names)
    : config_(std::move(config)),
      ends_(loader, names,
            {.width = config_.width,
             .epsilon = config_.epsilon,
             .tied = config_.tied,
             .embedding_scale = config_.embedding_scale,
             .logit_scale = config_.logit_scale,
             .norm_from_one = config_.norms_from_one}) {}

void ResidualModel::add(const WeightScope& scope, std::string_view norm, std::string_view gguf_norm,
                        std::unique_ptr<Mixer> mixer) {
  float* weight = scope.vector(norm, gguf_norm, config_.width);
  if (config_.norms_from_one) scope.loader().add_one(weight, config_.width);
  parts_.push_back({weight, std::move(mixer)});
}

void ResidualModel::finish(WeightLoader& loader) {
  info_.architecture = config_.architecture;
  info_.layers = config_.layers;
  info_.width = config_.width;
  info_.vocabulary = ends_.vocabulary();
  head_.weight = ends_.head();
  weights_ = loader.finish(info_);
}

void ResidualModel::forward(Step& step, kernels::RowsOut hidden) const {
  ThreadPool& pool = step.pool();
  const kernels::RowsOut residual = step.rows(config_.width);  // [M, D]
  const kernels::RowsOut delta = step.rows(config_.width);     // what the part before adds to it
  const kernels::RowsOut normed = step.rows(config_.width);
  ends_.embed(step, residual);
  step.lap_rows("embedding", config_.width);
  bool first = true;
  for (const Part& part : parts_) {
    if (first) {
      kernels::rms_norm(pool, residual, part.norm, config_.epsilon, normed);
    } else {
      kernels::add_rms_norm(pool, residual, delta, part.norm, config_.epsilon, normed);
    }
    first = false;
    step.lap_rows("norm", 2 * config_.width);
    part.mixer->forward(step, normed, delta);
    if (config_.residual_scale != 1.0F) kernels::scale(pool, config_.residual_scale, delta);
  }
  ends_.hidden(step, residual, delta, hidden);
}

}  // namespace krait::models
