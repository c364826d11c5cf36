#include "krait/train/checkpoint_layout.h"

#include <set>

#include "krait/core/check.h"
#include "krait/train/checkpoint_manifest.h"

namespace krait::train {

Result<CheckpointLayout> CheckpointLayout::of(std::int64_t step, std::span<const StateProvider* const> providers) {
  const std::string origin = fmt::format("the checkpoint of step {}", step);
  CheckpointLayout layout;
  std::set<std::string> names;
  for (const StateProvider* provider : providers) {
    const std::string name = provider->name();
    if (name.empty() || name.find('/') != std::string::npos || !names.insert(name).second) {
      return fail(ErrorCode::kInvalidArgument,
                  "[checkpoint] \"{}\" cannot name a provider: it is empty, holds '/' or is given twice ({})", name,
                  origin);
    }
    KRAIT_ASSIGN(ProvidedState state, provider->state());
    for (const auto& [tensor, view] : state.tensors) {
      layout.tensors.push_back({state_name(name, tensor), view.dtype, view.shape, view.bytes.size()});
      layout.sources.push_back({.bytes = view.bytes});
    }
    for (PiecewiseTensor& tensor : state.piecewise) {
      layout.tensors.push_back({state_name(name, tensor.name), tensor.dtype, tensor.shape, tensor.bytes});
      layout.sources.push_back({.bytes = {}, .piecewise = std::move(tensor)});
    }
    for (const auto& [blob, bytes] : layout.blobs_.emplace_back(std::move(state.blobs))) {
      layout.tensors.push_back(
          {state_name(name, blob), DType::kU8, {static_cast<std::int64_t>(bytes.size())}, bytes.size()});
      layout.sources.push_back({.bytes = bytes, .is_blob = true});
    }
  }
  layout.metadata_ = {{"format", kCheckpointFormat},
                      {"format_version", fmt::format("{}", kCheckpointVersion)},
                      {"step", fmt::format("{}", step)}};
  for (std::size_t i = 0; i < layout.tensors.size(); ++i) layout.set_checksum(i, 0);
  KRAIT_ASSIGN(layout.file, formats::lay_out_safetensors(layout.tensors, layout.metadata_, origin));
  return layout;
}

void CheckpointLayout::set_checksum(std::size_t tensor, std::uint32_t crc32c) {
  metadata_[checksum_key(tensors[tensor].name)] = checksum_text(crc32c);
}

const std::string& CheckpointLayout::complete_header() {
  auto complete = formats::lay_out_safetensors(tensors, metadata_, "a checkpoint");
  KRAIT_CHECK(complete.has_value(), "the header cannot be made a second time: {}", complete.error().message);
  KRAIT_CHECK_EQ(complete->header.size(), file.header.size());
  file.header = std::move(complete->header);
  return file.header;
}

}  // namespace krait::train
