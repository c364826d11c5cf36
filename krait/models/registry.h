// From a checkpoint to a model: which architectures there are, and which one a configuration names.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "krait/core/error.h"
#include "krait/formats/weight_source.h"
#include "krait/models/model.h"
#include "krait/models/weight_loader.h"

namespace krait::models {

Result<std::unique_ptr<Model>> load_model(std::shared_ptr<const formats::WeightSource> source,
                                          const LoadOptions& options = {});

// What the configuration calls itself ("mamba2", "jamba", …), whether krait knows it or not; the original
// state-spaces layout, which has no such word, and HAX are recognised by their keys. kCorrupt when it cannot be told.
Result<std::string> architecture_name(const formats::Config& config);
// The same for a checkpoint. One without any configuration is recognised by its tensors' names, where that is possible
// (RWKV-7's .pth).
Result<std::string> architecture_name(const formats::WeightSource& source);

// What documentation says of an architecture; docs/models.md is made of it, and of what models answer when asked.
struct ArchitectureFacts {
  std::string_view name;         // as configurations have it
  std::string_view models;       // what people call it
  std::string_view checkpoints;  // layouts that can be read
  std::string_view verified;     // what its logits were compared with
  std::string_view limits;       // what of it is not there
};
std::span<const ArchitectureFacts> architecture_facts();

// The architectures that load_model() takes, in the order of the documentation.
std::span<const std::string_view> architecture_names();

}  // namespace krait::models
