#include "krait/kernels/reference/scan_delta_backward.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace krait::kernels::reference {
namespace {

// One value head of a sequence.
struct Head {
  const DeltaScanOf<double>& scan;
  const DeltaScanInputsOf<double>& in;
  Rows<const double> d_o;
  const DeltaGradientsOf<double>& gradients;
  std::int64_t head, first_key, first_value;

  double decay(std::int64_t row) const { return std::exp(scan.a[head] * in.dt.row(row)[head]); }
  const double* k(std::int64_t row) const { return in.k.row(row) + first_key; }
  const double* q(std::int64_t row) const { return in.q.row(row) + first_key; }

  // S of `row` from S of the row before, and x = v - S'^T k.
  void forward(std::int64_t row, const double* before, double* after, double* x) const {
    const std::int64_t keys = scan.key_width, values = scan.value_width;
    for (std::int64_t value = 0; value < values; ++value) {
      double known = 0.0;
      for (std::int64_t key = 0; key < keys; ++key) known += decay(row) * before[key * values + value] * k(row)[key];
      x[value] = in.v.row(row)[first_value + value] - known;
      const double u = in.beta.row(row)[head] * x[value];
      for (std::int64_t key = 0; key < keys; ++key) {
        after[key * values + value] = decay(row) * before[key * values + value] + k(row)[key] * u;
      }
    }
  }

  // ds: of S after `row`, left as that of S before it.
  void backward(std::int64_t row, const double* before, const double* after, const double* x, double* ds) const {
    const std::int64_t keys = scan.key_width, values = scan.value_width;
    const double beta = in.beta.row(row)[head];
    double d_beta = 0.0, d_log = 0.0;
    for (std::int64_t value = 0; value < values; ++value) {
      const double up = d_o.row(row)[first_value + value];
      double du = 0.0;
      for (std::int64_t key = 0; key < keys; ++key) {
        const std::int64_t at = key * values + value;
        ds[at] += q(row)[key] * up;
        gradients.q.row(row)[first_key + key] += after[at] * up;
        du += ds[at] * k(row)[key];
      }
      const double dx = beta * du;
      d_beta += du * x[value];
      gradients.v.row(row)[first_value + value] = dx;
      for (std::int64_t key = 0; key < keys; ++key) {
        const std::int64_t at = key * values + value;
        const double decayed = decay(row) * before[at];
        gradients.k.row(row)[first_key + key] += ds[at] * beta * x[value] - decayed * dx;
        ds[at] -= k(row)[key] * dx;
        d_log += ds[at] * decayed;
        ds[at] *= decay(row);
      }
    }
    gradients.beta.row(row)[head] = d_beta;
    gradients.dt.row(row)[head] = scan.a[head] * d_log;
    if (gradients.a != nullptr) gradients.a[head] += in.dt.row(row)[head] * d_log;
  }
};

}  // namespace

void delta_scan_backward(const DeltaScanOf<double>& scan, const DeltaScanInputsOf<double>& in, const double* initial,
                         Rows<const double> d_o, const DeltaBackwardSequenceOf<double>& sequence,
                         const DeltaGradientsOf<double>& gradients) {
  const std::int64_t values = scan.value_width, size = scan.key_width * values;
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    std::fill_n(gradients.q.row(sequence.first_row + t), scan.key_heads * scan.key_width, 0.0);
    std::fill_n(gradients.k.row(sequence.first_row + t), scan.key_heads * scan.key_width, 0.0);
  }
  std::vector<double> states(static_cast<std::size_t>((sequence.rows + 1) * size));
  std::vector<double> x(static_cast<std::size_t>(sequence.rows * values));
  for (std::int64_t h = 0; h < scan.value_heads; ++h) {
    const std::int64_t first_key = h / (scan.value_heads / scan.key_heads) * scan.key_width;
    const Head head{scan, in, d_o, gradients, h, first_key, h * values};
    if (initial != nullptr) {
      std::copy_n(initial + h * size, size, states.data());
    } else {
      std::fill_n(states.data(), size, 0.0);
    }
    for (std::int64_t t = 0; t < sequence.rows; ++t) {
      head.forward(sequence.first_row + t, states.data() + t * size, states.data() + (t + 1) * size,
                   x.data() + t * values);
    }
    std::vector<double> ds(static_cast<std::size_t>(size), 0.0);
    if (sequence.final_gradient != nullptr) std::copy_n(sequence.final_gradient + h * size, size, ds.data());
    for (std::int64_t t = sequence.rows - 1; t >= 0; --t) {
      head.backward(sequence.first_row + t, states.data() + t * size, states.data() + (t + 1) * size,
                    x.data() + t * values, ds.data());
    }
    if (sequence.initial_gradient != nullptr) std::copy_n(ds.data(), size, sequence.initial_gradient + h * size);
  }
}

}  // namespace krait::kernels::reference
