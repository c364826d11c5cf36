// Reader of PyTorch checkpoints as torch.save writes them since version 1.6: a ZIP archive of stored entries
//   <name>/data.pkl   a pickle that describes the tensors
//   <name>/data/<key> the bytes of each storage
//   <name>/version, <name>/byteorder
// The pickle is interpreted by a machine that executes nothing (torch_pickle_machine.h). Only flat state dicts are
// read: a dict of names and tensors.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "krait/core/error.h"
#include "krait/formats/config.h"
#include "krait/formats/weight_source.h"

namespace krait::formats {

// `config` is what the source answers as its configuration: the format itself carries none. Contiguous tensors are
// views into the mapped file, transposed and strided ones are copied into order.
Result<std::unique_ptr<WeightSource>> open_torch_pickle(const std::filesystem::path& path, Config config);
// Same from memory, for tests and fuzzing; `file` must outlive the source.
Result<std::unique_ptr<WeightSource>> parse_torch_pickle(std::span<const std::byte> file, const std::string& origin,
                                                         Config config = Config());

}  // namespace krait::formats
