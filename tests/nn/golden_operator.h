// Cases of ../shared/golden/ops under autograd: inputs as libtorch's tensors that want gradients, results and gradients
// compared with those of the authors' code, in float and in double. The tolerances are the collection's own.
#pragma once

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "krait/nn/segments.h"
#include "tests/kernels/golden_tensors.h"
#include "tests/support/shared_data.h"

namespace krait::tests {

class GoldenOperator {
 public:
  GoldenOperator(const std::filesystem::path& shared, const char* name, at::ScalarType type)
      : golden_(file_of(shared, name)), type_(type) {}

  bool has(const std::string& name) const { return golden_.has("in." + name); }
  // The same tensor each time; undefined where the case has none of this name.
  at::Tensor in(const std::string& name) {
    if (!has(name)) return {};
    const auto found = inputs_.find(name);
    if (found != inputs_.end()) return found->second;
    at::Tensor tensor = read("in." + name);
    if (golden_.has("grad." + name)) tensor.requires_grad_();
    return inputs_.emplace(name, tensor).first->second;
  }
  at::Tensor out(const std::string& name) const { return read("out." + name); }
  // The case's values in a module's parameter, whose gradient is then compared.
  void put(const std::string& name, at::Tensor parameter) {
    parameter.set_data(read("in." + name));
    inputs_.emplace(name, parameter);
  }
  // From in.seq_idx [B, T] where the case has it, else B sequences of T rows.
  nn::Segments segments(std::int64_t batch, std::int64_t length) const {
    if (!golden_.has("in.seq_idx")) return nn::equal_segments(batch, length);
    const Tensor numbers = golden_.read("in.seq_idx");
    const std::vector<std::int64_t> whole(numbers.values.begin(), numbers.values.end());
    return nn::segments_of_numbers(whole.data(), batch, length);
  }

  // The last of each batch entry's segments: `states` [S, …] -> [B, …].
  at::Tensor last_states(const at::Tensor& states, std::int64_t batch, std::int64_t length) const {
    std::vector<std::int64_t> last;
    const nn::Segments all = segments(batch, length);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if ((all[i].first_row + all[i].rows) % length == 0) last.push_back(static_cast<std::int64_t>(i));
    }
    return states.index_select(0, at::tensor(last));
  }

  // Results by name, shaped as the case has them. Their upstream gradients are the case's, all at once.
  void expect(const std::map<std::string, at::Tensor>& results, double f32_tolerance = kKernelTolerance) {
    const double tolerance = type_ == at::kFloat ? f32_tolerance : kOracleTolerance;
    at::Tensor loss;
    for (const auto& [name, result] : results) {
      compare(result, "out." + name, tolerance);
      if (!golden_.has("up." + name)) continue;
      const at::Tensor part = (result * read("up." + name)).sum();
      loss = loss.defined() ? loss + part : part;
    }
    loss.backward();
    for (const auto& [name, input] : inputs_) {
      if (!golden_.has("grad." + name)) continue;
      const at::Tensor gradient = input.grad().defined() ? input.grad() : at::zeros_like(input);
      compare(gradient, "grad." + name, tolerance);
    }
  }

 private:
  at::Tensor read(const std::string& name) const {
    const Tensor golden = golden_.read(name);
    return at::tensor(golden.values, at::kDouble).reshape(golden.shape).to(type_);
  }
  void compare(const at::Tensor& actual, const std::string& name, double tolerance) const {
    const Tensor golden = golden_.read(name);
    ASSERT_EQ(actual.sizes().vec(), golden.shape) << name;
    const at::Tensor flat = actual.detach().to(at::kDouble).contiguous().view(-1);
    for (std::size_t i = 0; i < golden.values.size(); ++i) {
      ASSERT_LE(std::fabs(flat.data_ptr<double>()[i] - golden.values[i]), tolerance * golden.largest)
          << name << " [" << i << "]: " << flat.data_ptr<double>()[i] << " versus " << golden.values[i];
    }
  }

  Golden golden_;
  at::ScalarType type_;
  std::map<std::string, at::Tensor> inputs_;
};

}  // namespace krait::tests
