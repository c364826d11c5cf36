// Any text as the configuration of a training run: an error that says where, or a configuration.
#include "krait/core/check.h"
#include "krait/train/train_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto file = krait::train::ConfigFile::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!file) {
    KRAIT_CHECK(file.error().message.starts_with("[config] fuzz:"), "{}", file.error().message);
    return 0;
  }
  const auto config = krait::train::read_train_data_config(*file);
  if (file->finish()) KRAIT_CHECK(config.loader.batch >= 1 && config.loader.length >= 1, "a batch of nothing");
  return 0;
}
