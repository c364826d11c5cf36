#include "krait/nn/attention_heads.h"

#include "krait/nn/norms.h"
#include "krait/nn/rotary.h"

namespace krait::nn {

AttentionDimensions AttentionDimensions::checked() const {
  AttentionDimensions all = *this;
  if (all.key_heads == 0) all.key_heads = all.heads;
  if (all.head_width == 0 && all.heads > 0 && all.width % all.heads == 0) all.head_width = all.width / all.heads;
  if (all.width < 1 || all.heads < 1 || all.key_heads < 1 || all.heads % all.key_heads != 0 || all.head_width < 1) {
    throw UserError(fmt::format("attention of width {} with {} heads of {} and {} of keys", all.width, all.heads,
                                all.head_width, all.key_heads),
                    "queries have a multiple of the heads of keys, and all heads some columns");
  }
  if (all.window < 0 || all.rotary.width < 0 || all.rotary.width % 2 != 0 || all.rotary.width > all.head_width) {
    throw UserError(fmt::format("attention with a window of {} that turns {} of {} components", all.window,
                                all.rotary.width, all.head_width),
                    "an even number of a head's components turn");
  }
  return all;
}

AttentionProjections::AttentionProjections(torch::nn::Module& owner, const AttentionDimensions& dimensions,
                                           const std::string& suffix)
    : dimensions_(dimensions) {
  const AttentionDimensions& of = dimensions_;
  const auto dense = [&](const char* name, std::int64_t heads) {
    return owner.register_module(name + suffix, std::make_shared<Dense>(of.width, heads * of.head_width));
  };
  query_ = dense("q_proj", of.heads);
  key_ = dense("k_proj", of.key_heads);
  value_ = dense("v_proj", of.key_heads);
  if (!of.norms) return;
  query_norm_ = owner.register_module("q_norm" + suffix, std::make_shared<NormWeight>(of.head_width));
  key_norm_ = owner.register_module("k_norm" + suffix, std::make_shared<NormWeight>(of.head_width));
}

Tensor AttentionProjections::turned(const Tensor& projected, const std::shared_ptr<NormWeight>& norm,
                                    const Tensor& table) const {
  Tensor result = projected;
  if (norm != nullptr) {
    result = rms_norm(projected.reshape({-1, dimensions_.head_width}), norm->weight, dimensions_.norm_epsilon)
                 .reshape(projected.sizes());
  }
  return table.defined() ? rotate(dimensions_.rotary, table, dimensions_.head_width, result) : result;
}

Tensor AttentionProjections::queries(const Tensor& x, const Tensor& table) const {
  return turned(query_->forward(x), query_norm_, table);
}

Tensor AttentionProjections::keys(const Tensor& x, const Tensor& table) const {
  return turned(key_->forward(x), key_norm_, table);
}

Tensor rotations_of(const AttentionDimensions& dimensions, const Tensor& x, const Batch& batch) {
  if (dimensions.rotary.width == 0) return {};
  return rotary_table(dimensions.rotary, batch.segments, x.size(0), x.scalar_type());
}

}  // namespace krait::nn
