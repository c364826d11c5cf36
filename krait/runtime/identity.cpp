#include "krait/runtime/identity.h"

#include "krait/formats/content_identity.h"

namespace krait::runtime {

Result<formats::StateIdentity> identity_of(Engine& engine, const formats::WeightSource& source,
                                           const formats::Tokenizer* tokenizer) {
  formats::StateIdentity identity;
  identity.architecture = engine.model().info().architecture;
  identity.weights = kernels::to_string(engine.model().info().weights);
  KRAIT_ASSIGN(identity.model, formats::weights_identity(source, engine.pool()));
  if (tokenizer != nullptr) identity.tokenizer = formats::tokenizer_identity(*tokenizer);
  return identity;
}

}  // namespace krait::runtime
