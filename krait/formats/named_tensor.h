// A tensor with its name, as the writers of files take them. The bytes are somebody else's.
#pragma once

#include <string>

#include "krait/core/tensor_view.h"

namespace krait::formats {

struct NamedTensor {
  std::string name;
  TensorView view;
};

}  // namespace krait::formats
