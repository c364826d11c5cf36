// The layouts that trained models are exported to, by their mixers:
//   mamba, mamba2                 transformers' "mamba" and "mamba2"
//   mamba3, hax                   their authors', since transformers has neither
//   mamba2 and attention          transformers' "nemotron_h"; with feed-forward layers "granitemoehybrid" of no experts
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/train/trained_model.h"

namespace krait::train {

struct StoredParameter {
  std::string name;
  bool halves_exchanged = false;  // of its rows
};

struct ModelLayout {
  std::string config;  // config.json
  std::function<StoredParameter(std::string_view parameter)> stored;
};

// `rows` of the table; end_token as ExportOptions has it. kUnsupported for what no published layout has.
Result<ModelLayout> layout_of(const TrainedModelOptions& options, std::int64_t rows, std::int64_t end_token);

}  // namespace krait::train
