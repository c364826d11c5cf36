#include "krait/models/token_head.h"

#include "krait/kernels/activation.h"
#include "krait/kernels/norm.h"

namespace krait::models {

TokenHead::Names TokenHead::backbone_names(const WeightLoader& loader) {
  if (loader.is_gguf()) return names(loader, "", "");
  // Mistral's own files put everything under "model."; transformers calls the table "embeddings", state-spaces
  // "embedding".
  const std::string root = loader.has("model.backbone.norm_f.weight") ? "model." : "";
  const std::string plural = root + "backbone.embeddings.weight";
  return {loader.has(plural) ? plural : root + "backbone.embedding.weight", root + "backbone.norm_f.weight",
          root + "lm_head.weight"};
}

TokenHead::Names TokenHead::names(const WeightLoader& loader, std::string embedding, std::string norm) {
  if (loader.is_gguf()) return {"token_embd.weight", "output_norm.weight", "output.weight"};
  return {std::move(embedding), std::move(norm), "lm_head.weight"};
}

TokenHead::TokenHead(WeightLoader& loader, const Names& names, const Options& options)
    : epsilon_(options.epsilon), embedding_scale_(options.embedding_scale) {
  const std::int64_t vocabulary = loader.vocabulary(names.embedding);
  if (loader.failed()) return;
  embedding_ = loader.embedding(names.embedding, vocabulary, options.width);
  float* norm = loader.vector(names.norm, options.width);
  if (options.norm_from_one) loader.add_one(norm, options.width);
  norm_ = norm;
  const bool use_embedding = options.tied.value_or(!loader.has(names.head));
  head_ = use_embedding ? embedding_ : loader.embedding(names.head, vocabulary, options.width);
  head_.scale *= options.logit_scale;
  loader.count_head(head_);
}

void TokenHead::embed(Step& step, kernels::RowsOut residual) const {
  kernels::embed(step.pool(), embedding_, step.tokens().data(), residual);
  if (embedding_scale_ != 1.0F) kernels::scale(step.pool(), embedding_scale_, residual);
}

void TokenHead::hidden(Step& step, kernels::RowsIn residual, kernels::RowsIn delta, kernels::RowsOut hidden) const {
  const Workspace::Mark scratch(step.workspace());
  const kernels::RowsOut last = wanted_rows(step, residual);
  if (last.rows == 0) return;
  const kernels::RowsOut last_delta = wanted_rows(step, delta);
  kernels::add_rms_norm(step.pool(), last, last_delta, norm_, epsilon_, hidden);
  step.lap_rows("norm", 0);
}

}  // namespace krait::models
