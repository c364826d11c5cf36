#include "krait/kernels/reference/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "krait/core/check.h"

namespace krait::kernels::reference {
namespace {

template <class T>
T read_at(const std::byte* data, std::int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return value;
}

}  // namespace

float weight_at(const WeightMatrix& weight, std::int64_t row, std::int64_t column) {
  const std::int64_t index = row * weight.columns + column;
  switch (weight.dtype) {
    case DType::kF32: return read_at<float>(weight.data, index);
    case DType::kBF16: return bf16_to_f32(read_at<std::uint16_t>(weight.data, index));
    case DType::kF16: return f16_to_f32(read_at<std::uint16_t>(weight.data, index));
    default: check_failed("dtype", std::string(to_string(weight.dtype)));
  }
}

void linear(RowsIn x, const WeightMatrix& weight, const float* bias, RowsDouble y) {
  for (std::int64_t m = 0; m < x.rows; ++m) {
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      double sum = bias == nullptr ? 0.0 : bias[n];
      for (std::int64_t k = 0; k < x.columns; ++k) sum += double{x.row(m)[k]} * weight_at(weight, n, k);
      y.row(m)[n] = sum;
    }
  }
}

double log_sum_exp(std::span<const float> logits) {
  const double shift = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - shift);
  return shift + std::log(sum);
}

std::vector<double> softmax(std::span<const float> logits, double temperature) {
  const double shift = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  std::vector<double> result;
  for (const float logit : logits) {
    result.push_back(std::exp((logit - shift) / temperature));
    sum += result.back();
  }
  for (double& value : result) value /= sum;
  return result;
}

}  // namespace krait::kernels::reference
