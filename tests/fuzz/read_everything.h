// What a user of a checkpoint does with it: looks at every tensor and reads it, as long as it is small.
#pragma once

#include <algorithm>
#include <vector>

#include "krait/core/check.h"
#include "krait/formats/weight_source.h"

namespace krait::tests {

inline void read_everything(const formats::WeightSource& source) {
  constexpr std::int64_t kSmall = 1 << 16;
  KRAIT_CHECK(std::ranges::is_sorted(source.tensors(), {}, &formats::TensorInfo::name), "tensors are not sorted");
  for (const formats::TensorInfo& tensor : source.tensors()) {
    const auto view = source.view(tensor.name);
    KRAIT_CHECK(view.has_value(), "{} cannot be viewed", tensor.name);
    const auto elements = element_count(view->shape);
    KRAIT_CHECK(elements && bytes_for(view->dtype, *elements) == view->bytes.size(), "{} has another size",
                tensor.name);
    if (*elements > kSmall) continue;
    std::vector<float> values(static_cast<std::size_t>(*elements));
    const auto read = formats::read_as_f32(*view, values);
    KRAIT_CHECK(read.has_value(), "{} cannot be read", tensor.name);
  }
}

}  // namespace krait::tests
