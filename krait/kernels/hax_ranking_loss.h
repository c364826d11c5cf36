// What teaches HAX (Zhan et al. 2025, arXiv 2507.00449, and its published code) to score keys. The choice of the best
// has no gradient; instead scores learn to put keys in the order in which queries want them. Of each sequence some
// tokens are drawn; for the pairs of them
//   a[j] = sum_{t >= j} sigmoid(q[t] . k[j])                      how much queries want token j; no gradient
//   y[i, j] = 1 where a[i] > a[j], 1/2 where they are equal, else 0
//   loss = mean over all ordered pairs (i, j), i = j among them, of BCE(sigmoid(s[i] - s[j]), y[i, j])
//   BCE(sigmoid(x), y) = log(1 + e^x) - x y
// The mean is over the pairs of all sequences together. docs/decisions/0016 says what is ours: k stands for the scaled
// key of the kernel, and who draws. Targets are f32 for scores of either type: only their order counts.
#pragma once

#include <span>
#include <vector>

#include "krait/core/thread_pool.h"
#include "krait/kernels/rows.h"

namespace krait::kernels {

// For each sequence the rows of the matrices that were drawn, each of them once.
using DrawnRows = std::span<const std::vector<std::int64_t>>;

// targets: a of all drawn rows, list after list. q, k [M, N].
void hax_ranking_targets(ThreadPool& pool, RowsIn q, RowsIn k, std::span<const SequenceRows> sequences, DrawnRows drawn,
                         std::span<float> targets);

// scores [M, 1]. The loss, 0 where nothing is drawn. Sums run in double. T is float or double.
template <class T>
double hax_ranking_loss(Rows<const T> scores, DrawnRows drawn, std::span<const float> targets);

// scores_gradient [M, 1] = upstream * dloss / dscores for the rows of the sequences, 0 where they were not drawn.
template <class T>
void hax_ranking_loss_backward(Rows<const T> scores, std::span<const SequenceRows> sequences, DrawnRows drawn,
                               std::span<const float> targets, double upstream, Rows<T> scores_gradient);

}  // namespace krait::kernels
