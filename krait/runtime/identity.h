// What the states of an engine belong to.
#pragma once

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/formats/tokenizer.h"
#include "krait/formats/weight_source.h"
#include "krait/runtime/engine.h"

namespace krait::runtime {

// `source` is the checkpoint that the engine's model was loaded from; it is read through once. tokenizer null: tokens
// come from elsewhere.
Result<formats::StateIdentity> identity_of(Engine& engine, const formats::WeightSource& source,
                                           const formats::Tokenizer* tokenizer);

}  // namespace krait::runtime
