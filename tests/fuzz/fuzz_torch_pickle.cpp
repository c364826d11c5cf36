// Any bytes as a PyTorch checkpoint, or as the pickle within one (a ZIP in the way hides the pickle from the fuzzer):
// an error, or tensors that can all be read.
#include "krait/formats/torch_pickle.h"
#include "krait/formats/torch_pickle_machine.h"
#include "tests/fuzz/read_everything.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto source = krait::formats::parse_torch_pickle(bytes, "fuzz");
  if (source) krait::tests::read_everything(**source);

  const auto tensors = krait::formats::read_state_dict_pickle(bytes, "fuzz");
  if (!tensors) return 0;
  for (const krait::formats::PickledTensor& tensor : *tensors) {
    KRAIT_CHECK_EQ(tensor.shape.size(), tensor.strides.size());
    KRAIT_CHECK(tensor.offset >= 0 && tensor.storage_elements >= 0, "{} is at {} of {}", tensor.name, tensor.offset,
                tensor.storage_elements);
  }
  return 0;
}
