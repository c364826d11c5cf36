// Elementwise functions over rows. All of them may work in place (y = x).
//   silu(x) = x / (1 + e^-x)
//   sigmoid(x) = 1 / (1 + e^-x)
//   softplus(x) = log(1 + e^x), and x itself above 20, as every Mamba implementation has it
#pragma once

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

void silu(ThreadPool& pool, RowsIn x, RowsOut y);

void sigmoid(ThreadPool& pool, RowsIn x, RowsOut y);

// The error is a few roundings of 1, not of the result.
void hyperbolic_tangent(ThreadPool& pool, RowsIn x, RowsOut y);

// y = max(x, 0), y = max(x, 0)^2
void relu(ThreadPool& pool, RowsIn x, RowsOut y);
void squared_relu(ThreadPool& pool, RowsIn x, RowsOut y);

// y = x * silu(gate): the output gate of Mamba-1 and the gated MLP.
void silu_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y);

// y = clamp(softplus(x + bias), low, high); bias[D] may be null. The clamp comes after the softplus.
void softplus(ThreadPool& pool, RowsIn x, const float* bias, float low, float high, RowsOut y);

// y = x Phi(x) with the normal distribution's Phi: gelu without an approximation.
void gelu(ThreadPool& pool, RowsIn x, RowsOut y);

// y = x * gelu(gate), y = x * sigmoid(gate)
void gelu_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y);
void sigmoid_gate(ThreadPool& pool, RowsIn x, RowsIn gate, RowsOut y);

// y *= x, y *= factor
void multiply(ThreadPool& pool, RowsIn x, RowsOut y);
void scale(ThreadPool& pool, float factor, RowsOut y);

// y += x.
void add(ThreadPool& pool, RowsIn x, RowsOut y);

// y [M, R * D] from x [M, D]: each head of x, `width` columns, R times one after the other (heads that share keys).
void repeat_heads(ThreadPool& pool, RowsIn x, std::int64_t width, RowsOut y);

}  // namespace krait::kernels
