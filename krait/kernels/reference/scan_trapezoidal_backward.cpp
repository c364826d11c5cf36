#include "krait/kernels/reference/scan_trapezoidal_backward.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace krait::kernels::reference {
namespace {

using Numbers = std::vector<double>;
using Scan = TrapezoidalScanOf<double>;
using Gradients = TrapezoidalGradientsOf<double>;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
Numbers zeros(std::int64_t count) { return Numbers(static_cast<std::size_t>(count), 0.0); }

void add(double* to, std::int64_t at, double value) {
  if (to != nullptr) to[at] += value;
}

// to [N] = rms(from) norm
void normed(const Scan& scan, const double* from, const double* norm, double* to) {
  double squares = 0.0;
  for (std::int64_t n = 0; n < scan.states; ++n) squares += from[n] * from[n];
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(scan.states) + scan.epsilon);
  for (std::int64_t n = 0; n < scan.states; ++n) to[n] = from[n] * factor * norm[n];
}

// d_from [count] of to = from / root w with root^2 = mean(from^2) + epsilon; d_w is added to. w, d_w may be null.
void norm_backward(const double* from, const double* w, std::int64_t count, double epsilon, const double* d_to,
                   double* d_from, double* d_w) {
  double squares = 0.0, along = 0.0;
  for (std::int64_t i = 0; i < count; ++i) squares += from[i] * from[i];
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(count) + epsilon);
  for (std::int64_t i = 0; i < count; ++i) along += d_to[i] * w[i] * from[i];
  const double back = along * factor * factor * factor / static_cast<double>(count);
  for (std::int64_t i = 0; i < count; ++i) {
    d_from[i] = d_to[i] * w[i] * factor - from[i] * back;
    add(d_w, i, d_to[i] * from[i] * factor);
  }
}

// The entries of pair i.
std::int64_t left_of(const Scan& scan, std::int64_t i) { return scan.halves ? i : 2 * i; }
std::int64_t right_of(const Scan& scan, std::int64_t i) { return scan.halves ? i + scan.states / 2 : 2 * i + 1; }

void rotate(const Scan& scan, const double* theta, double* v) {
  for (std::int64_t i = 0; i < scan.angles; ++i) {
    double &a = v[left_of(scan, i)], &b = v[right_of(scan, i)];
    const double c = std::cos(theta[i]), s = std::sin(theta[i]), left = a * c - b * s;
    b = a * s + b * c;
    a = left;
  }
}

// d: of the turned v; left as that of what was turned. d_theta is added to.
void rotate_backward(const Scan& scan, const double* theta, const double* v, double* d, double* d_theta) {
  for (std::int64_t i = 0; i < scan.angles; ++i) {
    const std::int64_t left = left_of(scan, i), right = right_of(scan, i);
    const double c = std::cos(theta[i]), s = std::sin(theta[i]), dl = d[left], dr = d[right];
    d_theta[i] += dr * v[left] - dl * v[right];
    d[left] = dl * c + dr * s;
    d[right] = dr * c - dl * s;
  }
}

// One head of a sequence: what forward makes of every row, and the way back.
class Head {
 public:
  Head(const Scan& scan, const TrapezoidalInputsOf<double>& in, Rows<const double> d_y,
       const TrapezoidalBackwardSequenceOf<double>& sequence, const Gradients& gradients, std::int64_t head)
      : scan_(scan),
        in_(in),
        d_y_(d_y),
        sequence_(sequence),
        gradients_(gradients),
        h_(head),
        size_(scan.states * scan.head_width),
        wide_(scan.rank * scan.states),
        theta_(zeros((sequence.rows + 1) * scan.angles)),
        s_(zeros((sequence.rows + 1) * size_)),
        k_(zeros((sequence.rows + 1) * wide_)),
        q_(zeros((sequence.rows + 1) * wide_)),
        x_(zeros((sequence.rows + 1) * scan.head_width)) {}

  void forward() {
    read(sequence_.initial, 0, h_ * size_, size_, s_.data());
    read(sequence_.initial, scan_.angle_offset, h_ * scan_.angles, scan_.angles, theta_.data());
    read(sequence_.initial, scan_.key_offset, h_ * wide_, wide_, k_.data());
    read(sequence_.initial, scan_.value_offset, h_ * scan_.head_width, scan_.head_width, x_.data());
    for (std::int64_t t = 0; t < sequence_.rows; ++t) forward_row(t);
  }

  // b_normed, c_normed [rows, R*G*N]: gradients of rms(B) b_norm and rms(C) c_norm, added to.
  void backward(Numbers& b_normed, Numbers& c_normed) {
    Numbers ds = zeros(size_), dk = zeros(wide_), dx = zeros(scan_.head_width), d_theta = zeros(scan_.angles);
    read(sequence_.final_gradient, 0, h_ * size_, size_, ds.data());
    read(sequence_.final_gradient, scan_.angle_offset, h_ * scan_.angles, scan_.angles, d_theta.data());
    read(sequence_.final_gradient, scan_.key_offset, h_ * wide_, wide_, dk.data());
    read(sequence_.final_gradient, scan_.value_offset, h_ * scan_.head_width, scan_.head_width, dx.data());
    for (std::int64_t t = sequence_.rows - 1; t >= 0; --t) {
      backward_row(t, ds, dk, dx, d_theta, b_normed.data() + t * in_.b.columns, c_normed.data() + t * in_.c.columns);
    }
    write(ds, 0, h_ * size_);
    write(d_theta, scan_.angle_offset, h_ * scan_.angles);
    write(dk, scan_.key_offset, h_ * wide_);
    write(dx, scan_.value_offset, h_ * scan_.head_width);
  }

 private:
  struct Sizes {
    double dt, a, slope, l, alpha, beta, gamma;  // slope: of a in a_raw
  };

  static void read(const std::byte* state, std::int64_t offset, std::int64_t at, std::int64_t count, double* to) {
    if (state != nullptr) std::copy_n(reinterpret_cast<const double*>(state + offset) + at, count, to);
  }
  void write(const Numbers& from, std::int64_t offset, std::int64_t at) const {
    if (sequence_.initial_gradient == nullptr) return;
    std::copy(from.begin(), from.end(), reinterpret_cast<double*>(sequence_.initial_gradient + offset) + at);
  }
  double mix(const double* all, std::int64_t r, std::int64_t p) const {
    return all == nullptr ? 1.0 : all[mixed(r, p)];
  }
  std::int64_t mixed(std::int64_t r, std::int64_t p) const { return (h_ * scan_.rank + r) * scan_.head_width + p; }
  std::int64_t shared(std::int64_t r) const {
    return (r * scan_.groups + h_ / (scan_.heads / scan_.groups)) * scan_.states;
  }
  std::int64_t row(std::int64_t t) const { return sequence_.first_row + t; }
  double turn(std::int64_t t, std::int64_t i) const { return std::numbers::pi * std::tanh(in_.angle.row(row(t))[i]); }

  Sizes sizes(std::int64_t t) const {
    Sizes s{};
    s.dt = softplus(in_.dt.row(row(t))[h_] + scan_.dt_bias[h_]);
    const double u = in_.a.row(row(t))[h_];
    const double f = u >= 0.0 ? 1.0 + u : 1.0 / (1.0 - u);
    s.a = -std::max(f, scan_.decay_floor);
    s.slope = f > scan_.decay_floor ? -(u >= 0.0 ? 1.0 : f * f) : 0.0;
    s.l = sigmoid(in_.trap.row(row(t))[h_]);
    s.alpha = std::exp(s.a * s.dt);
    s.beta = (1.0 - s.l) * s.dt * s.alpha;
    s.gamma = s.l * s.dt;
    return s;
  }

  // Entry t + 1 of everything is what row t leaves.
  void forward_row(std::int64_t t) {
    const Sizes of = sizes(t);
    const std::int64_t angles = scan_.angles, states = scan_.states, width = scan_.head_width;
    double* const theta = theta_.data() + (t + 1) * angles;
    for (std::int64_t i = 0; i < angles; ++i) theta[i] = theta_[index(t * angles + i)] + turn(t, i) * of.dt;
    for (std::int64_t r = 0; r < scan_.rank; ++r) {
      const std::int64_t own = (h_ * scan_.rank + r) * states;
      double* const k = k_.data() + (t + 1) * wide_ + r * states;
      double* const q = q_.data() + (t + 1) * wide_ + r * states;
      normed(scan_, in_.b.row(row(t)) + shared(r), scan_.b_norm, k);
      normed(scan_, in_.c.row(row(t)) + shared(r), scan_.c_norm, q);
      for (std::int64_t n = 0; n < states; ++n) {
        k[n] += scan_.b_bias[own + n];
        q[n] += scan_.c_bias[own + n];
      }
      rotate(scan_, theta, k);
      rotate(scan_, theta, q);
    }
    const double* const last = x_.data() + t * width;
    double* const x = x_.data() + (t + 1) * width;
    std::copy_n(in_.x.row(row(t)) + h_ * width, width, x);
    for (std::int64_t n = 0; n < states; ++n) {
      for (std::int64_t p = 0; p < width; ++p) {
        double s = of.alpha * s_[index(t * size_ + n * width + p)];
        for (std::int64_t r = 0; r < scan_.rank; ++r) {
          s += mix(scan_.value_mix, r, p) * (of.beta * last[p] * k_[index(t * wide_ + r * states + n)] +
                                             of.gamma * x[p] * k_[index((t + 1) * wide_ + r * states + n)]);
        }
        s_[index((t + 1) * size_ + n * width + p)] = s;
      }
    }
  }

  // From the gradient of y to that of raw = S^T q_r + D v_r, of r alone: [P].
  Numbers outputs_backward(std::int64_t t, std::int64_t r) const {
    const std::int64_t width = scan_.head_width;
    const double* const z = in_.z.row(row(t)) + h_ * width;
    const double* const up = d_y_.row(row(t)) + h_ * width;
    Numbers raw = zeros(width), pre = zeros(width), d_pre = zeros(width);
    double squares = 0.0;
    for (std::int64_t p = 0; p < width; ++p) {
      raw[index(p)] = scan_.d[h_] * x_[index((t + 1) * width + p)] * mix(scan_.value_mix, r, p);
      for (std::int64_t n = 0; n < scan_.states; ++n) {
        raw[index(p)] += s_[index((t + 1) * size_ + n * width + p)] * q_[index((t + 1) * wide_ + r * scan_.states + n)];
      }
      squares += raw[index(p)] * raw[index(p)];
    }
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(width) + scan_.epsilon);
    for (std::int64_t p = 0; p < width; ++p) {
      pre[index(p)] = scan_.norm == nullptr ? raw[index(p)] : raw[index(p)] * factor * scan_.norm[h_ * width + p];
      const double g = z[p] * mix(scan_.gate_mix, r, p), gate = silu(g), out = mix(scan_.out_mix, r, p);
      const double d_g = up[p] * out * pre[index(p)] * sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)));
      d_pre[index(p)] = up[p] * out * gate;
      gradients_.z.row(row(t))[h_ * width + p] += d_g * mix(scan_.gate_mix, r, p);
      add(gradients_.gate_mix, mixed(r, p), d_g * z[p]);
      add(gradients_.out_mix, mixed(r, p), up[p] * pre[index(p)] * gate);
    }
    if (scan_.norm == nullptr) return d_pre;
    Numbers d_raw = zeros(width);
    norm_backward(raw.data(), scan_.norm + h_ * width, width, scan_.epsilon, d_pre.data(), d_raw.data(),
                  gradients_.norm == nullptr ? nullptr : gradients_.norm + h_ * width);
    return d_raw;
  }

  // ds, dk, dx, d_theta: gradients of S, k, x (as the next row sees them) and theta after row t, left as those before
  // it. db, dc: the row of b_normed and c_normed.
  void backward_row(std::int64_t t, Numbers& ds, Numbers& dk, Numbers& dx, Numbers& d_theta, double* db, double* dc) {
    const Sizes of = sizes(t);
    const std::int64_t states = scan_.states, width = scan_.head_width;
    const double *const before = s_.data() + t * size_, *const after = s_.data() + (t + 1) * size_;
    const double *const last = x_.data() + t * width, *const x = x_.data() + (t + 1) * width;
    const double* const theta = theta_.data() + (t + 1) * scan_.angles;
    Numbers dq = zeros(wide_), dk_last = zeros(wide_), dx_last = zeros(width), dv = zeros(scan_.rank * width);
    for (std::int64_t r = 0; r < scan_.rank; ++r) {
      const double* const q = q_.data() + (t + 1) * wide_ + r * states;
      const Numbers d_raw = outputs_backward(t, r);
      for (std::int64_t p = 0; p < width; ++p) {
        add(gradients_.d, h_, d_raw[index(p)] * x[p] * mix(scan_.value_mix, r, p));
        dv[index(r * width + p)] = scan_.d[h_] * d_raw[index(p)];
        for (std::int64_t n = 0; n < states; ++n) {
          dq[index(r * states + n)] += after[n * width + p] * d_raw[index(p)];
          ds[index(n * width + p)] += q[n] * d_raw[index(p)];
        }
      }
    }
    double d_alpha = 0.0, d_beta = 0.0, d_gamma = 0.0;
    for (std::int64_t p = 0; p < width; ++p) {
      for (std::int64_t n = 0; n < states; ++n) {
        double& g = ds[index(n * width + p)];
        for (std::int64_t r = 0; r < scan_.rank; ++r) {
          const double m = mix(scan_.value_mix, r, p), v = x[p] * m, v_last = last[p] * m;
          const double k = k_[index((t + 1) * wide_ + r * states + n)], k_last = k_[index(t * wide_ + r * states + n)];
          d_beta += g * k_last * v_last;
          d_gamma += g * k * v;
          dk[index(r * states + n)] += of.gamma * g * v;
          dk_last[index(r * states + n)] += of.beta * g * v_last;
          dv[index(r * width + p)] += of.gamma * g * k;
          dx_last[index(p)] += of.beta * g * k_last * m;
          add(gradients_.value_mix, mixed(r, p), of.beta * g * k_last * last[p]);
        }
        d_alpha += g * before[n * width + p];
        g *= of.alpha;
      }
      for (std::int64_t r = 0; r < scan_.rank; ++r) {
        dx[index(p)] += dv[index(r * width + p)] * mix(scan_.value_mix, r, p);
        add(gradients_.value_mix, mixed(r, p), dv[index(r * width + p)] * x[p]);
      }
      gradients_.x.row(row(t))[h_ * width + p] = dx[index(p)];
    }
    for (std::int64_t r = 0; r < scan_.rank; ++r) {
      const std::int64_t at = r * states, own = (h_ * scan_.rank + r) * states;
      rotate_backward(scan_, theta, k_.data() + (t + 1) * wide_ + at, dk.data() + at, d_theta.data());
      rotate_backward(scan_, theta, q_.data() + (t + 1) * wide_ + at, dq.data() + at, d_theta.data());
      for (std::int64_t n = 0; n < states; ++n) {
        add(gradients_.b_bias, own + n, dk[index(at + n)]);
        add(gradients_.c_bias, own + n, dq[index(at + n)]);
        db[shared(r) + n] += dk[index(at + n)];
        dc[shared(r) + n] += dq[index(at + n)];
      }
    }
    sizes_backward(t, of, d_alpha, d_beta, d_gamma, d_theta);
    dk = dk_last;
    dx = dx_last;
  }

  void sizes_backward(std::int64_t t, const Sizes& of, double d_alpha, double d_beta, double d_gamma,
                      const Numbers& d_theta) const {
    const double d_log = d_alpha * of.alpha + d_beta * of.beta;
    double d_dt = d_log * of.a + d_beta * (1.0 - of.l) * of.alpha + d_gamma * of.l;
    for (std::int64_t i = 0; i < scan_.angles; ++i) {
      const double tanh = std::tanh(in_.angle.row(row(t))[i]);
      d_dt += d_theta[index(i)] * std::numbers::pi * tanh;
      gradients_.angle.row(row(t))[i] += d_theta[index(i)] * std::numbers::pi * of.dt * (1.0 - tanh * tanh);
    }
    gradients_.a.row(row(t))[h_] = d_log * of.dt * of.slope;
    gradients_.trap.row(row(t))[h_] = of.dt * (d_gamma - d_beta * of.alpha) * of.l * (1.0 - of.l);
    const double d_raw = d_dt * sigmoid(in_.dt.row(row(t))[h_] + scan_.dt_bias[h_]);
    gradients_.dt.row(row(t))[h_] = d_raw;
    add(gradients_.dt_bias, h_, d_raw);
  }

  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  const Scan& scan_;
  const TrapezoidalInputsOf<double>& in_;
  Rows<const double> d_y_;
  const TrapezoidalBackwardSequenceOf<double>& sequence_;
  const Gradients& gradients_;
  std::int64_t h_, size_, wide_;
  Numbers theta_, s_, k_, q_, x_;  // [rows + 1] of [angles], [N, P], [R, N] twice, [P]
};

}  // namespace

void trapezoidal_scan_backward(const TrapezoidalScanOf<double>& scan, const TrapezoidalInputsOf<double>& in,
                               Rows<const double> d_y, const TrapezoidalBackwardSequenceOf<double>& sequence,
                               const TrapezoidalGradientsOf<double>& gradients) {
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    std::fill_n(gradients.z.row(sequence.first_row + t), scan.heads * scan.head_width, 0.0);
    std::fill_n(gradients.angle.row(sequence.first_row + t), scan.angles, 0.0);
  }
  Numbers db = zeros(sequence.rows * in.b.columns), dc = zeros(sequence.rows * in.c.columns);
  for (std::int64_t h = 0; h < scan.heads; ++h) {
    Head head(scan, in, d_y, sequence, gradients, h);
    head.forward();
    head.backward(db, dc);
  }
  for (std::int64_t t = 0; t < sequence.rows; ++t) {
    const std::int64_t row = sequence.first_row + t;
    for (std::int64_t at = 0; at < in.b.columns; at += scan.states) {
      norm_backward(in.b.row(row) + at, scan.b_norm, scan.states, scan.epsilon, db.data() + t * in.b.columns + at,
                    gradients.b.row(row) + at, gradients.b_norm);
      norm_backward(in.c.row(row) + at, scan.c_norm, scan.states, scan.epsilon, dc.data() + t * in.c.columns + at,
                    gradients.c.row(row) + at, gradients.c_norm);
    }
  }
}

}  // namespace krait::kernels::reference
