// The cases of ../shared/golden/ops as tests read them (README there): tensors widened to double, segments of packed
// rows, and the tolerances that collection states, relative to the largest element of a tensor.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "krait/formats/safetensors.h"
#include "krait/kernels/rows.h"

namespace krait::tests {

inline constexpr double kOracleTolerance = 1e-9;
inline constexpr double kKernelTolerance = 1e-5;

struct Tensor {
  Shape shape;
  std::vector<double> values;
  double largest = 0.0;

  std::int64_t size(std::size_t dimension) const { return shape.at(dimension); }
  // Row-major; as many indices as dimensions.
  double at(std::initializer_list<std::int64_t> index) const {
    std::int64_t offset = 0;
    std::size_t dimension = 0;
    for (const std::int64_t i : index) offset = offset * shape.at(dimension++) + i;
    return values.at(static_cast<std::size_t>(offset));
  }
};

class Golden {
 public:
  explicit Golden(const std::filesystem::path& path) {
    auto opened = formats::open_safetensors(path, formats::Config());
    if (!opened) throw std::runtime_error(opened.error().message);
    source_ = std::move(*opened);
  }
  bool has(std::string_view name) const { return source_->find(name) != nullptr; }
  Tensor read(std::string_view name) const {
    const auto view = source_->view(name);
    if (!view) throw std::runtime_error(view.error().message);
    Tensor tensor{.shape = view->shape, .values = {}};
    const auto append = [&]<class T>(T) {
      for (std::size_t i = 0; i < view->bytes.size(); i += sizeof(T)) {
        T value;
        std::memcpy(&value, view->bytes.data() + i, sizeof(T));
        tensor.values.push_back(static_cast<double>(value));
        tensor.largest = std::max(tensor.largest, std::fabs(tensor.values.back()));
      }
    };
    if (view->dtype == DType::kF32) append(float{});
    if (view->dtype == DType::kF64) append(double{});
    if (view->dtype == DType::kI32) append(std::int32_t{});
    return tensor;
  }

 private:
  std::unique_ptr<formats::WeightSource> source_;
};

inline std::filesystem::path file_of(const std::filesystem::path& shared, const char* name) {
  return shared / "golden" / "ops" / (std::string(name) + ".safetensors");
}

inline void expect_element(double actual, double expected, double tolerance, double largest) {
  ASSERT_LE(std::fabs(actual - expected), tolerance * largest) << actual << " versus " << expected;
}

// The rows of one batch entry, cut where seq_idx changes: one range per segment.
inline std::vector<kernels::SequenceRows> segments(const Golden& golden, std::int64_t batch, std::int64_t length) {
  std::vector<kernels::SequenceRows> result;
  if (!golden.has("in.seq_idx")) return {{.first_row = 0, .rows = length, .state = nullptr}};
  const Tensor index = golden.read("in.seq_idx");
  for (std::int64_t t = 0; t < length; ++t) {
    if (t == 0 || index.at({batch, t}) != index.at({batch, t - 1})) result.push_back({.first_row = t, .rows = 0});
    result.back().rows++;
  }
  return result;
}

// The segments of all batch entries, whose rows stand one after the other, and which of them is an entry's last: the
// one that its states belong to.
struct BatchSegments {
  std::vector<kernels::SequenceRows> sequences;
  std::vector<std::int64_t> last;

  BatchSegments(const Golden& golden, std::int64_t batch, std::int64_t length) {
    for (std::int64_t n = 0; n < batch; ++n) {
      for (kernels::SequenceRows segment : segments(golden, n, length)) {
        segment.first_row += n * length;
        sequences.push_back(segment);
      }
      last.push_back(static_cast<std::int64_t>(sequences.size()) - 1);
    }
  }
};

}  // namespace krait::tests
