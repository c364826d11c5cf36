// Gradients of a function of tensors held against differences in double, every entry of every input, for a loss
// that weighs all entries of all results. Then the same with each result alone, where the upstream gradients of the
// others are undefined: the shares have to add up. Then in float, on the vectorised kernels: results and gradients have
// to be those in double.
#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "krait/core/random.h"
#include "krait/nn/segments.h"

namespace krait::tests {

// Numbers that f32 holds too, so that both types start from the same.
inline at::Tensor normal_tensor(at::IntArrayRef shape, Random& random, double scale = 1.0, double shift = 0.0) {
  at::Tensor tensor = at::empty(shape, at::kDouble);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<double>()[i] = static_cast<double>(static_cast<float>(shift + scale * random.normal()));
  }
  return tensor;
}

// The rows [M, C] that are part of a segment; what stands in the others is nobody's.
inline at::Tensor covered_rows(const at::Tensor& rows, const nn::Segments& segments) {
  std::vector<at::Tensor> parts;
  for (const nn::Segment& segment : segments) parts.push_back(rows.narrow(0, segment.first_row, segment.rows));
  return at::cat(parts, 0);
}

// Of 9 rows, row 5 is padding; the second segment has no rows.
inline const nn::Segments kPaddedSegments = {{0, 5}, {5, 0}, {6, 3}};
inline constexpr std::int64_t kPaddedRows = 9;

// A test that draws its tensors, the same each time.
class RandomTensors : public ::testing::Test {
 protected:
  at::Tensor normal(at::IntArrayRef shape, double scale = 1.0, double shift = 0.0) {
    return normal_tensor(shape, random_, scale, shift);
  }

 private:
  Random random_{5};
};

// By name; one that is not there is undefined.
class Inputs {
 public:
  Inputs(std::map<std::string, at::Tensor> tensors) : tensors_(std::move(tensors)) {}
  at::Tensor operator()(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? at::Tensor() : found->second;
  }
  // Copies that want gradients.
  Inputs leaves(at::ScalarType type) const {
    std::map<std::string, at::Tensor> copies;
    for (const auto& [name, tensor] : tensors_) {
      copies.emplace(name, tensor.to(type, false, /*copy=*/true).set_requires_grad(true));
    }
    return copies;
  }
  const std::map<std::string, at::Tensor>& all() const { return tensors_; }

 private:
  std::map<std::string, at::Tensor> tensors_;
};

using Results = std::vector<at::Tensor>;
using Gradients = std::map<std::string, at::Tensor>;

inline double largest_of(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 0.0 : tensor.abs().max().item<double>();
}

// Of sum of weights * results; with `alone` of one of them. Inputs that nothing flows back to have none.
inline Gradients gradients_of(const Inputs& leaves, const Results& results, const Results& weights, int alone = -1) {
  at::Tensor loss;
  for (std::size_t r = 0; r < results.size(); ++r) {
    if (alone >= 0 && static_cast<std::size_t>(alone) != r) continue;
    const at::Tensor part = (results[r] * weights[r].to(results[r].scalar_type())).sum();
    loss = loss.defined() ? loss + part : part;
  }
  if (loss.requires_grad()) loss.backward({}, /*retain_graph=*/true);
  Gradients gradients;
  for (const auto& [name, leaf] : leaves.all()) {
    if (leaf.grad().defined()) gradients[name] = leaf.grad().to(at::kDouble, false, /*copy=*/true).contiguous();
    leaf.mutable_grad() = at::Tensor();
  }
  return gradients;
}

// The derivative of loss() by `entry`, which it reads, and which is as before afterwards. Differences of four points
// with steps h and 2 h are off by h^4 / 30 of the fifth derivative and by some roundings of the loss over h: with h =
// 1e-4 some 1e-11 of either, times the number of terms that an entry takes part in.
template <class Loss>
double derivative_by_differences(double& entry, const Loss& loss) {
  constexpr double kStep = 1e-4;
  const double before = entry;
  const auto at = [&](double shift) {
    entry = before + shift;
    return loss();
  };
  const double near = at(kStep) - at(-kStep), far = at(2.0 * kStep) - at(-2.0 * kStep);
  entry = before;
  return (8.0 * near - far) / (12.0 * kStep);
}

// Small cases have less than a hundred terms that an entry takes part in; a norm of few small numbers has large
// derivatives. Floats differ by the collection of goldens' own tolerance.
inline void check_gradients(const Inputs& inputs, const std::function<Results(const Inputs&)>& function,
                            double f32_tolerance = 1e-5) {
  Random random(17);
  const Inputs leaves = inputs.leaves(at::kDouble);
  const Results results = function(leaves);
  Results weights;
  for (const at::Tensor& result : results) weights.push_back(normal_tensor(result.sizes(), random));
  const Gradients gradients = gradients_of(leaves, results, weights);

  Gradients sums;
  for (std::size_t r = 0; r < results.size(); ++r) {
    for (const auto& [name, share] : gradients_of(leaves, results, weights, static_cast<int>(r))) {
      sums[name] = sums[name].defined() ? sums[name] + share : share;
    }
  }
  const auto loss = [&] {
    const Results now = function(inputs);
    double sum = 0.0;
    for (std::size_t r = 0; r < now.size(); ++r) sum += (now[r] * weights[r]).sum().item<double>();
    return sum;
  };
  for (const auto& [name, input] : inputs.all()) {
    ASSERT_TRUE(gradients.contains(name)) << name << " has no gradient";
    const at::Tensor& gradient = gradients.at(name);
    ASSERT_EQ(gradient.sizes(), input.sizes()) << name;
    const double largest = std::max(1.0, largest_of(gradient));
    ASSERT_LE(largest_of(sums[name] - gradient), 1e-12 * largest) << name << ": gradients of single results";
    ASSERT_TRUE(input.is_contiguous()) << name;
    for (std::int64_t j = 0; j < input.numel(); ++j) {
      const double derivative = derivative_by_differences(input.data_ptr<double>()[j], loss);
      ASSERT_NEAR(derivative, gradient.data_ptr<double>()[j], 1e-8 * largest) << name << " [" << j << "]";
    }
  }

  const Inputs floats = inputs.leaves(at::kFloat);
  const Results in_float = function(floats);
  for (std::size_t r = 0; r < results.size(); ++r) {
    ASSERT_EQ(in_float[r].scalar_type(), at::kFloat) << "result " << r;
    ASSERT_LE(largest_of(in_float[r].to(at::kDouble) - results[r]), f32_tolerance * largest_of(results[r]))
        << "result " << r << " in float";
  }
  for (auto& [name, gradient] : gradients_of(floats, in_float, weights)) {
    ASSERT_LE(largest_of(gradient - gradients.at(name)), f32_tolerance * largest_of(gradients.at(name)))
        << "the gradient of " << name << " in float";
  }
}

}  // namespace krait::tests
