#include "krait/kernels/reference/scan_delta.h"

#include <cmath>

namespace krait::kernels::reference {

template <class T>
void delta_scan(const DeltaScanOf<T>& scan, const DeltaScanInputsOf<T>& in, std::span<double> state, RowsDouble o) {
  const std::int64_t keys = scan.key_width, values = scan.value_width;
  for (std::int64_t t = 0; t < o.rows; ++t) {
    for (std::int64_t h = 0; h < scan.value_heads; ++h) {
      const std::int64_t first_key = h / (scan.value_heads / scan.key_heads) * keys;
      const double decay = std::exp(double{scan.a[h]} * double{in.dt.row(t)[h]});
      double* const s = state.data() + h * keys * values;
      for (std::int64_t value = 0; value < values; ++value) {
        double known = 0.0, sum = 0.0;
        for (std::int64_t key = 0; key < keys; ++key) {
          known += decay * s[key * values + value] * double{in.k.row(t)[first_key + key]};
        }
        const double u = double{in.beta.row(t)[h]} * (double{in.v.row(t)[h * values + value]} - known);
        for (std::int64_t key = 0; key < keys; ++key) {
          double& element = s[key * values + value];
          element = decay * element + double{in.k.row(t)[first_key + key]} * u;
          sum += element * double{in.q.row(t)[first_key + key]};
        }
        o.row(t)[h * values + value] = sum;
      }
    }
  }
}

template void delta_scan(const DeltaScanOf<float>&, const DeltaScanInputsOf<float>&, std::span<double>, RowsDouble);
template void delta_scan(const DeltaScanOf<double>&, const DeltaScanInputsOf<double>&, std::span<double>, RowsDouble);

}  // namespace krait::kernels::reference
