// Gradients of the elementwise functions (activation.h): dx = dy f'(x), computed from the forward's inputs. All of them
// may work in place: a gradient may stand in the place of dy or of the input it belongs to.
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

void silu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);
void sigmoid_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);
void hyperbolic_tangent_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);
void gelu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);

// At x = 0 the gradient of relu is 0.
void relu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);
void squared_relu_backward(ThreadPool& pool, RowsIn x, RowsIn dy, RowsOut dx);

// Of y = x f(gate): dx = dy f(gate), dgate = dy x f'(gate).
struct GateGradients {
  RowsOut x;
  RowsOut gate;
};
void silu_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients);
void sigmoid_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients);
void gelu_gate_backward(ThreadPool& pool, RowsIn x, RowsIn gate, RowsIn dy, const GateGradients& gradients);

// Of y = clamp(softplus(x + bias), low, high): nothing flows back where the clamp holds. dbias [D] is added to; null:
// not wanted.
void softplus_backward(ThreadPool& pool, RowsIn x, const float* bias, float low, float high, RowsIn dy, RowsOut dx,
                       float* dbias);

// dx [M, D] from dy [M, R * D]: the sum over the R copies of each head of `width` columns. Not in place.
void repeat_heads_backward(ThreadPool& pool, RowsIn dy, std::int64_t width, RowsOut dx);

}  // namespace krait::kernels
