// A state object written anew: in other dtypes, compressed or not, with or without what is not the state itself.
#pragma once

#include <filesystem>

#include "krait/core/error.h"
#include "krait/formats/state_file.h"
#include "krait/models/state_layout.h"

namespace krait::runtime {

struct StateConversion {
  // The layout whose dtypes the state shall have: that of the same model, loaded with other options. Null: as they are.
  const models::StateLayout* layout = nullptr;
  int zstd_level = 0;
  bool keep_tokens = true;
  bool keep_sampler = true;
  bool keep_logits = true;
};

// Verifies the object first. kInvalidArgument when the layout is not one of its model.
Result<void> convert_state_file(const formats::StateObject& object, const std::filesystem::path& out,
                                const StateConversion& conversion);

}  // namespace krait::runtime
