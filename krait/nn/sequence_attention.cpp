#include "krait/nn/sequence_attention.h"

#include <ATen/Functions.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "krait/kernels/reference/sequence_attention.h"
#include "krait/kernels/sequence_attention_backward.h"
#include "krait/nn/compute_threads.h"
#include "krait/nn/segment_states.h"

namespace krait::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;
using Chosen = std::vector<std::vector<kernels::ChosenToken>>;

// Of a source, whose tensors stand one after the other.
constexpr std::size_t kTensors = 3;

// What is in view, of all sources.
struct View {
  std::vector<std::int64_t> windows, delays, prefixes;
  std::vector<Chosen> chosen;
};

// As autograd keeps it: of each source how many lists, then of each list its length and its tokens.
std::vector<std::int64_t> to_list(const std::vector<Chosen>& chosen) {
  std::vector<std::int64_t> list;
  for (const Chosen& lists : chosen) {
    list.push_back(static_cast<std::int64_t>(lists.size()));
    for (const auto& tokens : lists) {
      list.push_back(static_cast<std::int64_t>(tokens.size()));
      for (const kernels::ChosenToken& token : tokens) list.insert(list.end(), {token.token, token.first, token.end});
    }
  }
  return list;
}
std::vector<Chosen> chosen_from_list(const std::vector<std::int64_t>& list) {
  std::vector<Chosen> chosen;
  auto next = list.begin();
  while (next != list.end()) {
    chosen.emplace_back(static_cast<std::size_t>(*next++));
    for (auto& tokens : chosen.back()) {
      tokens.resize(static_cast<std::size_t>(*next++));
      for (kernels::ChosenToken& token : tokens) {
        token = {.token = next[0], .first = next[1], .end = next[2]};
        next += 3;
      }
    }
  }
  return chosen;
}

kernels::Attention attention_of(const AttentionHeads& heads, const Tensor& k, const Tensor& v) {
  const std::int64_t key_width = k.size(-1) / heads.key;
  const double scale = heads.scale == 0.0 ? 1.0 / std::sqrt(static_cast<double>(key_width)) : heads.scale;
  return {.kv = {.key_heads = heads.key,
                 .key_width = key_width,
                 .value_heads = heads.value,
                 .value_width = v.size(-1) / heads.value},
          .query_heads = heads.query,
          .scale = static_cast<float>(scale)};
}

template <class Real>
std::vector<kernels::SequenceSource<Real>> sources_of(const tensor_list& tensors, const View& view) {
  std::vector<kernels::SequenceSource<Real>> sources;
  for (std::size_t s = 0; s < view.windows.size(); ++s) {
    sources.push_back({.q = rows_in<Real>(tensors[kTensors * s]),
                       .k = rows_in<Real>(tensors[kTensors * s + 1]),
                       .v = rows_in<Real>(tensors[kTensors * s + 2]),
                       .window = view.windows[s],
                       .delay = view.delays[s],
                       .chosen = view.chosen[s]});
  }
  return sources;
}

class SequenceAttention : public torch::autograd::Function<SequenceAttention> {
 public:
  // q, k, v of each source in turn.
  static Tensor forward(AutogradContext* context, at::TensorList in, const AttentionHeads& heads, const View& view,
                        const Segments& segments) {
    // A tensor that stands in several places has one gradient, the sum: kernels add it up in one matrix.
    std::vector<std::int64_t> first_place;
    std::vector<std::vector<std::int64_t>> shapes;
    tensor_list saved;
    for (std::size_t i = 0; i < in.size(); ++i) {
      std::size_t first = i % kTensors;
      while (!in[first].is_same(in[i])) first += kTensors;
      first_place.push_back(static_cast<std::int64_t>(first));
      shapes.push_back(in[i].sizes().vec());
      saved.push_back(first < i ? saved[first] : as_rows(in[i]));
    }
    const kernels::Attention attention = attention_of(heads, saved[1], saved[2]);
    const std::int64_t rows = saved[0].size(0);
    Tensor out = new_segment_rows(saved[0], segments, rows, heads.query * attention.kv.value_width);
    Tensor lse = new_rows(saved[0], rows, heads.query);
    const auto sequences = sequences_of(segments);
    const kernels::AttentionSequences rows_of = {.sequences = sequences, .prefixes = view.prefixes};
    if (out.scalar_type() == at::kDouble) {
      kernels::reference::sequence_attention(attention, sources_of<double>(saved, view), rows_of, rows_out<double>(out),
                                             rows_out<double>(lse));
    } else {
      kernels::sequence_attention(ComputePool(), attention, sources_of<float>(saved, view), rows_of,
                                  rows_out<float>(out), rows_out<float>(lse));
    }
    saved.insert(saved.end(), {out, lse});
    context->save_for_backward(saved);
    auto& kept = context->saved_data;
    kept["heads"] = std::vector<std::int64_t>{heads.query, heads.key, heads.value};
    kept["scale"] = heads.scale;
    kept["segments"] = nn::to_list(segments);
    kept["windows"] = view.windows;
    kept["delays"] = view.delays;
    kept["prefixes"] = view.prefixes;
    kept["chosen"] = to_list(view.chosen);
    kept["first_place"] = first_place;
    kept["shapes"] = c10::List<std::vector<std::int64_t>>();
    auto kept_shapes = kept["shapes"].toList();
    for (const auto& shape : shapes) kept_shapes.push_back(shape);
    std::vector<std::int64_t> shape = shapes.front();
    shape.back() = out.size(1);
    return out.view(shape);
  }

  static tensor_list backward(AutogradContext* context, tensor_list upstream) {
    const tensor_list saved = context->get_saved_variables();
    const auto& kept = context->saved_data;
    const auto counts = kept.at("heads").toIntVector(), first_place = kept.at("first_place").toIntVector();
    const AttentionHeads heads{counts[0], counts[1], counts[2], kept.at("scale").toDouble()};
    const Segments segments = from_list(kept.at("segments").toIntVector());
    const View view{kept.at("windows").toIntVector(), kept.at("delays").toIntVector(),
                    kept.at("prefixes").toIntVector(), chosen_from_list(kept.at("chosen").toIntVector())};
    const std::size_t count = first_place.size();
    const Tensor &out = saved[count], &lse = saved[count + 1], d_out = as_rows(upstream[0]);
    tensor_list to(count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto first = static_cast<std::size_t>(first_place[i]);
      to[i] = first < i ? to[first] : new_segment_rows(saved[i], segments, saved[i].size(0), saved[i].size(1));
    }
    const auto sequences = sequences_of(segments);
    const kernels::AttentionSequences rows_of = {.sequences = sequences, .prefixes = view.prefixes};
    const kernels::Attention attention = attention_of(heads, saved[1], saved[2]);
    with_real(out, [&](auto real) {
      using Real = decltype(real);
      std::vector<kernels::SequenceAttentionGradients<Real>> gradients;
      for (std::size_t i = 0; i < count; i += kTensors) {
        gradients.push_back(
            {.q = rows_out<Real>(to[i]), .k = rows_out<Real>(to[i + 1]), .v = rows_out<Real>(to[i + 2])});
      }
      const auto sources = sources_of<Real>(saved, view);
      if constexpr (std::is_same_v<Real, double>) {
        kernels::reference::sequence_attention_backward(attention, sources, rows_of, rows_in<double>(d_out), gradients);
      } else {
        kernels::sequence_attention_backward(ComputePool(), attention, sources, rows_of, rows_in<float>(out),
                                             rows_in<float>(lse), rows_in<float>(d_out), gradients);
      }
    });
    const auto shapes = kept.at("shapes").toList();
    for (std::size_t i = 0; i < count; ++i) {
      const bool counted = static_cast<std::size_t>(first_place[i]) < i;
      to[i] = counted ? Tensor() : to[i].view(shapes.get(i).toIntVector());
    }
    to.resize(count + 3);  // nothing for heads, view and segments
    return to;
  }
};

void check_heads(const AttentionHeads& heads, const AttentionSource& source) {
  if (heads.key < 1 || heads.value < 1 || heads.query < 1 || heads.key % heads.value != 0 ||
      heads.query % heads.key != 0) {
    throw UserError(fmt::format("attention of {} heads of queries, {} of keys and {} of values", heads.query, heads.key,
                                heads.value),
                    "queries have a multiple of the heads of keys, and those of the heads of values");
  }
  const auto width = [](const Tensor& of, std::int64_t count, const char* name) {
    const std::int64_t columns = of.defined() && of.dim() > 0 ? of.size(-1) : 0;
    if (columns == 0 || columns % count != 0) {
      throw UserError(fmt::format("{} of attention has {} columns for {} heads", name, columns, count),
                      "heads are of equal width");
    }
    return columns / count;
  };
  if (width(source.q, heads.query, "q") != width(source.k, heads.key, "k")) {
    throw UserError(fmt::format("q of attention has {} columns for {} heads, k {} for {}", source.q.size(-1),
                                heads.query, source.k.size(-1), heads.key),
                    "heads of queries and of keys are of one width");
  }
  width(source.v, heads.value, "v");
}

void check_chosen(const Chosen& chosen, const Segments& segments) {
  if (chosen.empty()) return;
  if (chosen.size() != segments.size()) {
    throw UserError(fmt::format("chosen tokens of {} segments", chosen.size()),
                    fmt::format("there are {} segments", segments.size()));
  }
  for (std::size_t i = 0; i < segments.size(); ++i) {
    for (const auto& [token, first, end] : chosen[i]) {
      if (token < 0 || token >= segments[i].rows || first < 0 || first > end || end > segments[i].rows) {
        throw UserError(fmt::format("token {} is chosen for rows {} to {} of segment {}", token, first, end, i),
                        fmt::format("it has {} rows", segments[i].rows));
      }
    }
  }
}

}  // namespace

Tensor sequence_attention(const AttentionHeads& heads, const std::vector<AttentionSource>& sources,
                          const Segments& segments, const std::vector<std::int64_t>& prefixes) {
  if (sources.empty()) throw UserError("attention without a source", "give it queries, keys and values");
  AttentionHeads all = heads;
  if (all.value == 0) all.value = all.key;
  check_real(sources.front().q, "q of attention");
  check_heads(all, sources.front());
  View view{.windows = {}, .delays = {}, .prefixes = prefixes, .chosen = {}};
  tensor_list in;
  const auto shape_with = [&](std::int64_t columns) { return shape_with_columns(sources.front().q, columns); };
  for (const AttentionSource& source : sources) {
    const AttentionSource& first = sources.front();
    for (const Tensor* tensor : {&source.q, &source.k, &source.v}) {
      if (!tensor->defined()) throw UserError("a source of attention without q, k or v", "give it all three");
      check_same_type(*tensor, first.q, "a source of attention");
      in.push_back(*tensor);
    }
    check_shape(source.q, first.q.sizes(), "q of attention");
    check_shape(source.k, shape_with(first.k.size(-1)), "k of attention");
    check_shape(source.v, shape_with(first.v.size(-1)), "v of attention");
    if (source.window < 0 || source.delay < 0 || (source.delay > 0 && !prefixes.empty())) {
      throw UserError(
          fmt::format("a window of {}, a delay of {} and {} prefixes", source.window, source.delay, prefixes.size()),
          "both are at least 0, and no source with a delay has prefixes");
    }
    check_chosen(source.chosen, segments);
    view.windows.push_back(source.window);
    view.delays.push_back(source.delay);
    view.chosen.push_back(source.chosen);
  }
  check_segments(segments, in.front().numel() / in.front().size(-1));
  if (!prefixes.empty() && prefixes.size() != segments.size()) {
    throw UserError(fmt::format("{} prefixes for {} segments", prefixes.size(), segments.size()),
                    "each segment has one, 0 perhaps");
  }
  for (std::size_t i = 0; i < prefixes.size(); ++i) {
    if (prefixes[i] < 0 || prefixes[i] > segments[i].rows) {
      throw UserError(fmt::format("a prefix of {} in segment {}", prefixes[i], i),
                      fmt::format("it has {} rows", segments[i].rows));
    }
  }
  return SequenceAttention::apply(at::TensorList(in), all, view, segments);
}

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionHeads& heads,
                        const Segments& segments, std::int64_t window, const std::vector<std::int64_t>& prefixes) {
  return sequence_attention(heads, {{.q = q, .k = k, .v = v, .window = window}}, segments, prefixes);
}

}  // namespace krait::nn
