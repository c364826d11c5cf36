// One case of ../shared/golden/ops (README there): tensors by name, widened to double.
#pragma once

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

namespace krait::tests {

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
  Golden(const std::filesystem::path& shared, const std::string& name)
      : Golden(shared / "golden" / "ops" / (name + ".safetensors")) {}
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

}  // namespace krait::tests
