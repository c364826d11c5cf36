#include "krait/kernels/reference/dense_product.h"

namespace krait::kernels::reference {

void dense_product(GemmForm form, Rows<const double> a, Rows<const double> b, Rows<double> c) {
  const std::int64_t depth = form.a_transposed ? a.rows : a.columns;
  for (std::int64_t m = 0; m < c.rows; ++m) {
    for (std::int64_t n = 0; n < c.columns; ++n) {
      double sum = form.add ? c.row(m)[n] : 0.0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += (form.a_transposed ? a.row(k)[m] : a.row(m)[k]) * (form.b_transposed ? b.row(n)[k] : b.row(k)[n]);
      }
      c.row(m)[n] = sum;
    }
  }
}

void bias_backward(Rows<const double> dy, double* dbias) {
  for (std::int64_t m = 0; m < dy.rows; ++m) {
    for (std::int64_t n = 0; n < dy.columns; ++n) dbias[n] += dy.row(m)[n];
  }
}

}  // namespace krait::kernels::reference
