#include "krait/train/data_provenance.h"

#include <nlohmann/json.hpp>

namespace krait::train {
namespace {

using Json = nlohmann::ordered_json;

Hash128 hash_of(const Json& json) {
  const auto hash = Hash128::parse(json.get<std::string>());
  if (!hash) throw std::invalid_argument("a hash has not 32 digits");
  return *hash;
}

}  // namespace

std::string Provenance::to_json() const {
  Json root = {{"sources", Json::array()},
               {"tokenizer", {{"path", tokenizer}, {"hash", tokenizer_identity.hex()}}},
               {"rules", Json::array()},
               {"documents", documents},
               {"shard", shard}};
  for (const TextFile& file : sources) {
    root["sources"].push_back(
        {{"path", file.path}, {"bytes", file.bytes}, {"hash", file.hash.hex()}, {"documents", file.documents}});
  }
  for (const QualityRule& rule : rules) {
    root["rules"].push_back({{"name", rule.name}, {"setting", rule.setting}, {"dropped", rule.dropped}});
  }
  return root.dump(1, ' ', false, Json::error_handler_t::replace);
}

Result<Provenance> Provenance::parse(std::string_view json, const std::string& origin) {
  try {
    const Json root = Json::parse(json.begin(), json.end());
    Provenance out;
    for (const Json& file : root.at("sources")) {
      out.sources.push_back({file.at("path").get<std::string>(), file.at("bytes").get<std::uint64_t>(),
                             hash_of(file.at("hash")), file.at("documents").get<std::int64_t>()});
    }
    out.tokenizer = root.at("tokenizer").at("path").get<std::string>();
    out.tokenizer_identity = hash_of(root.at("tokenizer").at("hash"));
    for (const Json& rule : root.at("rules")) {
      out.rules.push_back({rule.at("name").get<std::string>(), rule.at("setting").get<std::string>(),
                           rule.at("dropped").get<std::int64_t>()});
    }
    out.documents = root.at("documents").get<std::int64_t>();
    out.shard = root.at("shard").get<std::int64_t>();
    return out;
  } catch (const std::exception& error) {  // the JSON library's, and ours
    return fail(ErrorCode::kCorrupt, "[shard] provenance: {} ({})", error.what(), origin);
  }
}

}  // namespace krait::train
