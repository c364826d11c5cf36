#include "krait/kernels/s4_kernel.h"

#include "krait/kernels/cauchy.h"
#include "krait/kernels/dft_any_length.h"
#include "krait/kernels/s4_states.h"

namespace krait::kernels {
namespace {

using Complex = std::complex<double>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

// Of the channel's sums: alpha = 2 Re v and beta = 2 Re(v mu*).
CauchyStates cauchy_states(const S4Channel& channel) {
  const auto states = static_cast<std::int64_t>(channel.mu.size());
  const std::int64_t used = static_cast<std::int64_t>(channel.products.size()) / states;
  CauchyStates result(states, used);
  for (std::int64_t n = 0; n < states; ++n) {
    const Complex mu = channel.mu[at(n)];
    result.square[at(n)] = std::norm(mu);
    result.real[at(n)] = mu.real();
    for (std::int64_t i = 0; i < used; ++i) {
      const Complex v = channel.products[at(n * used + i)];
      result.alpha[at(n * result.coefficients + i)] = 2.0 * v.real();
      result.beta[at(n * result.coefficients + i)] = 2.0 * (v * std::conj(mu)).real();
    }
  }
  return result;
}

Complex sum_at(const CauchySums& sums, std::int64_t nodes, std::int64_t coefficient, std::int64_t node) {
  return {sums[at(2 * coefficient * nodes + node)], sums[at((2 * coefficient + 1) * nodes + node)]};
}

// What the channels of one call share.
struct Transform {
  DftAnyLength dft;
  CauchyNodes nodes;
  std::int64_t copies, rank;

  Transform(const S4Kernel& p, std::int64_t length) : dft(length), nodes(length), copies(p.copies), rank(p.rank) {}
  std::int64_t length() const { return dft.length(); }
  std::int64_t used_nodes() const { return length() / 2 + 1; }
  std::int64_t sums() const { return (copies + rank) * (1 + rank); }
  S4Node node(std::int64_t k) const { return {copies, rank, nodes.u[at(k)], nodes.c[at(k)]}; }
};

void make_channel(const Transform& transform, const S4Channel& channel, RowsOut kernel) {
  CauchySums sums;
  cauchy_sums(transform.nodes, cauchy_states(channel), sums);
  const std::int64_t length = transform.length(), copies = transform.copies;
  std::vector<Complex> q(at(transform.sums())), values(at(copies)), spectra(at(copies * length)), row(at(length));
  for (std::int64_t k = 0; k < transform.used_nodes(); ++k) {
    for (std::int64_t i = 0; i < transform.sums(); ++i) q[at(i)] = sum_at(sums, transform.nodes.count(), i, k);
    s4_spectrum(transform.node(k), q.data(), values.data());
    // Conjugated, so that the forward transform is the inverse one; the kernel being real, it is the same thing.
    for (std::int64_t copy = 0; copy < copies; ++copy) {
      spectra[at(copy * length + k)] = std::conj(values[at(copy)]);
      if (k > 0) spectra[at(copy * length + length - k)] = values[at(copy)];
    }
  }
  for (std::int64_t copy = 0; copy < copies; ++copy) {
    transform.dft.transform({spectra.data() + copy * length, at(length)}, row);
    for (std::int64_t l = 0; l < length; ++l) {
      kernel.row(copy)[l] = static_cast<float>(row[at(l)].real() / static_cast<double>(length));
    }
  }
}

// The spectra's gradients: K[l] = Re sum_k m_k / L K^[k] e^(2 pi i k l / L) over the nodes used, where m counts a node
// for its mirror image too.
std::vector<Complex> spectra_of(const Transform& transform, RowsIn dkernel) {
  const std::int64_t length = transform.length();
  std::vector<Complex> spectra(at(transform.copies * length)), row(at(length));
  for (std::int64_t copy = 0; copy < transform.copies; ++copy) {
    for (std::int64_t l = 0; l < length; ++l) row[at(l)] = dkernel.row(copy)[l];
    const std::span<Complex> spectrum(spectra.data() + copy * length, at(length));
    transform.dft.transform(row, spectrum);
    for (std::int64_t k = 0; k < transform.used_nodes(); ++k) {
      spectrum[at(k)] *= (k == 0 || 2 * k == length ? 1.0 : 2.0) / static_cast<double>(length);
    }
  }
  return spectra;
}

struct ChannelGradients {
  std::vector<Complex> products, mu;
};

ChannelGradients take_back_channel(const Transform& transform, const S4Channel& channel, RowsIn dkernel) {
  const CauchyStates states = cauchy_states(channel);
  CauchySums sums, dsums;
  cauchy_sums(transform.nodes, states, sums);
  dsums.assign(sums.size(), 0.0);
  const std::vector<Complex> dspectra = spectra_of(transform, dkernel);
  const std::int64_t nodes = transform.nodes.count(), used = transform.sums();
  std::vector<Complex> q(at(used)), dq(at(used)), up(at(transform.copies));
  for (std::int64_t k = 0; k < transform.used_nodes(); ++k) {
    for (std::int64_t i = 0; i < used; ++i) q[at(i)] = sum_at(sums, nodes, i, k);
    for (std::int64_t copy = 0; copy < transform.copies; ++copy) {
      up[at(copy)] = dspectra[at(copy * transform.length() + k)];
    }
    s4_spectrum_backward(transform.node(k), q.data(), up.data(), dq.data());
    for (std::int64_t i = 0; i < used; ++i) {
      dsums[at(2 * i * nodes + k)] = dq[at(i)].real();
      dsums[at((2 * i + 1) * nodes + k)] = dq[at(i)].imag();
    }
  }
  CauchyStates by(states.states, used);
  cauchy_sums_backward(transform.nodes, states, dsums, by);
  ChannelGradients result;
  for (std::int64_t n = 0; n < states.states; ++n) {
    const Complex mu = channel.mu[at(n)];
    Complex by_mu = 2.0 * mu * by.square[at(n)] + by.real[at(n)];
    for (std::int64_t i = 0; i < used; ++i) {
      const double alpha = by.alpha[at(n * by.coefficients + i)], beta = by.beta[at(n * by.coefficients + i)];
      result.products.push_back(2.0 * (alpha + beta * mu));
      by_mu += 2.0 * beta * channel.products[at(n * used + i)];
    }
    result.mu.push_back(by_mu);
  }
  return result;
}

}  // namespace

void s4_kernel(ThreadPool& pool, const S4Kernel& parameters, RowsOut kernel) {
  check_s4(parameters, kernel.rows);
  if (kernel.columns == 0) return;
  const Transform transform(parameters, kernel.columns);
  pool.parallel_for(parameters.channels, 1, [&](std::int64_t first, std::int64_t last) {
    S4Channel channel;
    for (std::int64_t h = first; h < last; ++h) {
      prepare_s4_channel(parameters, h, channel);
      make_channel(transform, channel,
                   {kernel.row(h), parameters.copies, kernel.columns, parameters.channels * kernel.stride});
    }
  });
}

void s4_kernel_backward(ThreadPool& pool, const S4Kernel& parameters, RowsIn dkernel,
                        const S4KernelGradients& gradients) {
  check_s4(parameters, dkernel.rows);
  if (dkernel.columns == 0) return;
  const Transform transform(parameters, dkernel.columns);
  S4Sums sums(parameters.channels, parameters.states, parameters.rank);
  pool.parallel_for(parameters.channels, 1, [&](std::int64_t first, std::int64_t last) {
    S4Channel channel;
    for (std::int64_t h = first; h < last; ++h) {
      prepare_s4_channel(parameters, h, channel);
      const ChannelGradients by =
          take_back_channel(transform, channel,
                            {dkernel.row(h), parameters.copies, dkernel.columns, parameters.channels * dkernel.stride});
      add_s4_channel<float>(parameters, h, channel, by.products, by.mu, sums, gradients);
    }
  });
  add_s4_sums(parameters, sums, gradients);
}

}  // namespace krait::kernels
