#include "krait/models/mixers/bmojo.h"

#include <vector>

namespace krait::models {
namespace {

std::vector<kernels::KvSequence> ring_sequences(Step& step, std::uint64_t offset, std::int64_t window) {
  const auto sequences = step.ring_sequences(offset, kernels::kv_ring_pages(window));
  return {sequences.begin(), sequences.end()};
}

}  // namespace

BmojoMixer::BmojoMixer(const WeightScope& scope, const BmojoDimensions& dimensions, std::unique_ptr<Mixer> fading,
                       StateLayout& layout, const std::string& state_name)
    : dimensions_(dimensions),
      fading_(std::move(fading)),
      heads_(scope, dimensions.attention, {}),
      output_(AttentionOutput::load(scope, dimensions.attention, {})),
      attention_(heads_.attention(scope.loader().kv_dtype())),
      store_{.kv = attention_.kv, .size = dimensions.eidetic, .window = attention_.window} {
  if (!dimensions.tied) {
    fading_heads_ = AttentionHeads(scope, dimensions.attention,
                                   {.query = "q_proj_",
                                    .key = "k_proj_",
                                    .value = "v_proj_",
                                    .output = {},
                                    .query_norm = "q_norm_",
                                    .key_norm = "k_norm_"});
  }
  if (scope.loader().failed()) return;
  near_offset_ = layout.add_ring(state_name + ".kv", attention_.kv, near_window());
  far_offset_ = layout.add_ring(state_name + ".fading.kv", attention_.kv, 2 * attention_.window);
  if (store_.size == 0) return;
  const std::string name = state_name + ".eidetic.";
  store_offsets_.pages = layout.add_bundled(name + "kv", attention_.kv, kernels::kv_pages(store_.size));
  store_offsets_.scores = layout.add(name + "scores", {store_.size}, DType::kF32, StateKind::kRecurrent);
  store_offsets_.positions = layout.add(name + "positions", {store_.size}, DType::kI64, StateKind::kRecurrent);
  store_offsets_.pending = layout.add(name + "pending", {store_.window}, DType::kF32, StateKind::kRecurrent);
  store_offsets_.prediction = layout.add(name + "prediction", {attention_.kv.value_heads * attention_.kv.value_width},
                                         DType::kF32, StateKind::kRecurrent);
}

void BmojoMixer::forward(Step& step, kernels::RowsIn u, kernels::RowsOut out) const {
  const Workspace::Mark scratch(step.workspace());
  const kernels::RowsOut f = step.rows(u.columns);  // [M, D]
  fading_->forward(step, u, f);
  const AttentionHeads::Rows near = heads_.project(step, u, u);
  AttentionHeads::Rows far = dimensions_.tied ? heads_.project(step, {}, f) : fading_heads_.project(step, u, f);
  if (dimensions_.tied) far.q = near.q;
  const kernels::RowsOut attended = step.rows(near.q.columns);  // [M, Hq*P]
  attend(step, near, far, attended);
  output_.forward(step, attended, out);
}

void BmojoMixer::attend(Step& step, const AttentionHeads::Rows& near, const AttentionHeads::Rows& far,
                        kernels::RowsOut attended) const {
  ThreadPool& pool = step.pool();
  const auto near_sequences = ring_sequences(step, near_offset_, near_window());
  const auto far_sequences = ring_sequences(step, far_offset_, 2 * attention_.window);
  std::vector<kernels::AttentionSource> sources = {
      {.q = near.q, .k = near.k, .v = near.v, .sequences = near_sequences},
      {.q = far.q, .k = far.k, .v = far.v, .sequences = far_sequences, .delay = attention_.window}};
  kernels::Attention all = attention_;  // for the profile
  all.window = 2 * attention_.window + store_.size;
  if (store_.size == 0) {
    kernels::attention(pool, attention_, sources, attended);
    step.lap_attention("attention", all);
    return;
  }

  const kernels::RowsOut innovations = step.rows(1);
  kernels::innovations(pool, far.v, near.v, step.sequences(store_offsets_.prediction), innovations);
  std::vector<kernels::EideticState> states;
  std::vector<kernels::KvSequence> chosen;
  for (const Segment& segment : step.segments()) {
    const kernels::KvSequence& rows = near_sequences[states.size()];
    chosen.push_back({.first_row = rows.first_row, .rows = rows.rows, .position = rows.position});
    states.push_back({.pages = segment.state + store_offsets_.pages,
                      .scores = reinterpret_cast<float*>(segment.state + store_offsets_.scores),
                      .positions = reinterpret_cast<std::int64_t*>(segment.state + store_offsets_.positions),
                      .pending = reinterpret_cast<float*>(segment.state + store_offsets_.pending)});
  }
  kernels::EideticReading reading(pool, store_, std::move(states), near_sequences, innovations);
  sources.push_back({.q = near.q,
                     .k = {},
                     .v = {},
                     .sequences = chosen,
                     .delay = 0,
                     .choose = [&](std::span<kernels::KvSequence> cut) { reading.choose(cut); }});
  kernels::attention(pool, attention_, sources, attended);
  step.lap_attention("attention", all);
}

}  // namespace krait::models
