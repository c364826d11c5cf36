// Oracle: AdamW as plain loops in double. This is also how training runs in double.
#pragma once

#include "krait/kernels/adamw.h"

namespace krait::kernels::reference {

double sum_of_squares(std::span<const double> gradient);
void adamw_update(const AdamW& adamw, const AdamWParameterOf<double>& parameter);

}  // namespace krait::kernels::reference
