// Oracle: elementwise functions and their gradients as plain loops in double. This is also how training runs in double.
// A function and its slope are two plain functions: silu and silu_slope, gelu and gelu_slope, ...
#pragma once

#include "krait/kernels/reference/elementwise.h"

namespace krait::kernels::reference {

using ScalarFunction = double (*)(double);

// silu, softplus and their slopes are in elementwise.h, sigmoid in rwkv7.h.
double sigmoid_slope(double x);
double hyperbolic_tangent(double x);
double hyperbolic_tangent_slope(double x);
double relu(double x);
double relu_slope(double x);
double squared_relu(double x);
double squared_relu_slope(double x);
double gelu(double x);
double gelu_slope(double x);

// y = f(x); dx = dy f'(x).
void apply(ScalarFunction function, Rows<const double> x, RowsDouble y);
void apply_backward(ScalarFunction slope, Rows<const double> x, Rows<const double> dy, RowsDouble dx);

// y = x f(gate); dx = dy f(gate), dgate = dy x f'(gate).
void gate_by(ScalarFunction function, Rows<const double> x, Rows<const double> gate, RowsDouble y);
void gate_by_backward(ScalarFunction function, ScalarFunction slope, Rows<const double> x, Rows<const double> gate,
                      Rows<const double> dy, RowsDouble dx, RowsDouble dgate);

// y = clamp(softplus(x + bias), low, high); bias and dbias may be null, dbias is added to.
void softplus(Rows<const double> x, const double* bias, double low, double high, RowsDouble y);
void softplus_backward(Rows<const double> x, const double* bias, double low, double high, Rows<const double> dy,
                       RowsDouble dx, double* dbias);

}  // namespace krait::kernels::reference
