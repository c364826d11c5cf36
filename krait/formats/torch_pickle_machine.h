// A restricted pickle machine: reads what torch.save writes for a state dict and executes nothing. Python's own
// unpickler calls whatever the file names; this one knows four things by name (an ordered dict, the two functions
// that put a tensor together, the storage classes), builds plain descriptions for them and refuses every other name
// and every opcode that a state dict does not need.
// Source: the opcode table of Python's pickletools, protocols 2 to 5, and torch/_utils.py for the meaning of
//   _rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks)
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/core/tensor_view.h"

namespace krait::formats {

// What the pickle says about one tensor. Nothing of it has been compared with the archive. The texts lie within the
// pickle.
struct PickledTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  std::string_view storage_key;       // the entry data/<key> of the archive
  std::int64_t storage_elements = 0;  // of the whole storage, which several tensors may share
  std::int64_t offset = 0;            // in elements, as are the strides
  Shape shape;                        // 64 dimensions at most, as in PyTorch
  std::vector<std::int64_t> strides;  // as many as dimensions; none is negative, nor is any other number here
};

// The tensors of a flat state dict, in the order of the file; their names are unique.
Result<std::vector<PickledTensor>> read_state_dict_pickle(std::span<const std::byte> pickle, const std::string& origin);

}  // namespace krait::formats
