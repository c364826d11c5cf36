// Cases of ../shared/golden/ops (README there): tensors of float64 results by the authors' code, read whole, and the
// tolerances that the collection states, relative to the largest element of a tensor.
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
#include "tests/kernels/kernel_testing.h"
#include "tests/support/shared_data.h"

namespace krait::tests {

inline constexpr double kOracleTolerance = 1e-9;
inline constexpr double kKernelTolerance = 1e-5;

struct GoldenTensor {
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

class GoldenCase {
 public:
  explicit GoldenCase(const std::filesystem::path& path) {
    auto opened = formats::open_safetensors(path, formats::Config());
    if (!opened) throw std::runtime_error(opened.error().message);
    source_ = std::move(*opened);
  }
  GoldenCase(const std::filesystem::path& shared, std::string_view name)
      : GoldenCase(shared / "golden" / "ops" / (std::string(name) + ".safetensors")) {}
  bool has(std::string_view name) const { return source_->find(name) != nullptr; }
  GoldenTensor read(std::string_view name) const {
    const auto view = source_->view(name);
    if (!view) throw std::runtime_error(view.error().message);
    GoldenTensor tensor{.shape = view->shape, .values = {}};
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

template <class Value>
Matrix matrix_of(std::int64_t rows, std::int64_t columns, Value&& value) {
  Matrix result(rows, columns);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) result.at(r, c) = static_cast<float>(value(r, c));
  }
  return result;
}

// The rows of one batch entry, cut where seq_idx changes: one range per segment.
inline std::vector<kernels::SequenceRows> golden_segments(const GoldenCase& golden, std::int64_t batch,
                                                          std::int64_t length) {
  std::vector<kernels::SequenceRows> result;
  if (!golden.has("in.seq_idx")) return {{.first_row = 0, .rows = length, .state = nullptr}};
  const GoldenTensor index = golden.read("in.seq_idx");
  for (std::int64_t t = 0; t < length; ++t) {
    if (t == 0 || index.at({batch, t}) != index.at({batch, t - 1})) result.push_back({.first_row = t, .rows = 0});
    result.back().rows++;
  }
  return result;
}

inline void expect_element(double actual, double expected, double tolerance, double largest) {
  ASSERT_LE(std::fabs(actual - expected), tolerance * largest) << actual << " versus " << expected;
}

}  // namespace krait::tests
