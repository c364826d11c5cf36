// Any bytes as a configuration and as the index of shards: an error, or keys of which each can be asked for.
#include "krait/core/check.h"
#include "krait/formats/config.h"
#include "krait/formats/weight_source_sharded.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = krait::formats::Config::parse_json(text, "fuzz");
  if (config) {
    for (const auto& [key, value] : config->values()) {
      const int answers = config->integer(key).has_value() + config->number(key).has_value() +
                          config->boolean(key).has_value() + config->text(key).has_value() +
                          config->integers(key).has_value() + config->numbers(key).has_value() +
                          config->texts(key).has_value();
      const bool has_getter = config->has(key) && !std::holds_alternative<std::vector<bool>>(value);
      KRAIT_CHECK((answers > 0) == has_getter, "{} has {} answers", key, answers);
    }
  }
  const auto shards = krait::formats::parse_shard_index(text, "fuzz");
  if (shards) {
    for (const auto& [tensor, file] : *shards) {
      KRAIT_CHECK(file.find('/') == std::string::npos && file != "..", "{} lies in {}", tensor, file);
    }
  }
  return 0;
}
