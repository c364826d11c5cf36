// The tensors of Mamba 130M (Gu & Dao 2023), layer by layer, as a training run holds them: for what depends on their
// sizes alone. The embedding, which is also the head, is the first layer; the last norm stands with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "krait/core/tensor_view.h"

namespace krait::bench {

struct SizedTensor {
  std::string name;
  Shape shape;
  std::uint64_t elements() const { return static_cast<std::uint64_t>(element_count(shape).value()); }
};

inline std::vector<std::vector<SizedTensor>> mamba_130m_layers() {
  constexpr std::int64_t V = 50280, D = 768, E = 1536, N = 16, R = 48, K = 4;
  std::vector<std::vector<SizedTensor>> layers = {
      {{"backbone.embedding.weight", {V, D}}, {"backbone.norm_f.weight", {D}}}};
  for (int layer = 0; layer < 24; ++layer) {
    const std::string at = "backbone.layers." + std::to_string(layer) + ".";
    layers.push_back({{at + "norm.weight", {D}},
                      {at + "mixer.in_proj.weight", {2 * E, D}},
                      {at + "mixer.conv1d.weight", {E, 1, K}},
                      {at + "mixer.conv1d.bias", {E}},
                      {at + "mixer.x_proj.weight", {R + 2 * N, E}},
                      {at + "mixer.dt_proj.weight", {E, R}},
                      {at + "mixer.dt_proj.bias", {E}},
                      {at + "mixer.A_log", {E, N}},
                      {at + "mixer.D", {E}},
                      {at + "mixer.out_proj.weight", {D, E}}});
  }
  return layers;
}

}  // namespace krait::bench
