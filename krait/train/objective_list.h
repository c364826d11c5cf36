// The kinds of objectives, each beside its kin: objective_<name>.cpp.
#pragma once

#include "krait/train/objective.h"

namespace krait::train {

extern const ObjectiveKind kNextToken, kPrefixLanguageModeling;          // objective_language.cpp
extern const ObjectiveKind kCopying, kDeshuffling;                       // objective_copying.cpp
extern const ObjectiveKind kAutoencoding, kAutoencodingWithDeshuffling;  // objective_autoencoding.cpp
extern const ObjectiveKind kInfilling;                                   // objective_infilling.cpp
extern const ObjectiveKind kSelectiveCopyingObjective;                   // objective_selective_copying.cpp

}  // namespace krait::train
