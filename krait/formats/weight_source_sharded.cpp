#include "krait/formats/weight_source_sharded.h"

#include <vector>

#include "krait/formats/mapped_file.h"

namespace krait::formats {
namespace {

class ShardedSource final : public WeightSource {
 public:
  ShardedSource(std::string origin, Config config) : origin_(std::move(origin)), config_(std::move(config)) {}

  std::string_view format() const override { return shards_.front()->format(); }
  const Config& config() const override { return config_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  std::string origin() const override { return origin_; }

  void release(std::string_view name) const override {
    if (const TensorInfo* info = find(name))
      shards_[shard_of_[static_cast<std::size_t>(info - tensors_.data())]]->release(name);
  }
  Result<TensorView> view(std::string_view name) const override {
    const TensorInfo* info = find(name);
    if (info == nullptr) return fail(ErrorCode::kNotFound, "[{}] no tensor \"{}\" ({})", format(), name, origin_);
    return shards_[shard_of_[static_cast<std::size_t>(info - tensors_.data())]]->view(name);
  }

  std::size_t add_shard(std::unique_ptr<WeightSource> shard) {
    shards_.push_back(std::move(shard));
    return shards_.size() - 1;
  }
  const WeightSource& shard(std::size_t index) const { return *shards_[index]; }
  void add_tensor(TensorInfo info, std::size_t shard) {
    tensors_.push_back(std::move(info));
    shard_of_.push_back(shard);
  }

 private:
  std::string origin_;
  Config config_;
  std::vector<TensorInfo> tensors_;    // sorted by name
  std::vector<std::size_t> shard_of_;  // parallel to tensors_
  std::vector<std::unique_ptr<WeightSource>> shards_;
};

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

Result<std::map<std::string, std::string>> parse_shard_index(std::string_view text, const std::string& origin) {
  KRAIT_ASSIGN(const Config index, Config::parse_json(text, origin));
  constexpr std::string_view kPrefix = "weight_map.";
  std::map<std::string, std::string> shards;
  for (const auto& [key, value] : index.values()) {
    if (!key.starts_with(kPrefix)) continue;
    const std::string tensor = key.substr(kPrefix.size());
    const auto* file = std::get_if<std::string>(&value);
    if (file == nullptr) {
      return fail(ErrorCode::kCorrupt, "[shards] the file of tensor \"{}\" is not text ({})", tensor, origin);
    }
    if (!is_plain_name(*file)) {
      return fail(ErrorCode::kCorrupt, "[shards] tensor \"{}\": \"{}\" is not a plain file name beside the index ({})",
                  tensor, *file, origin);
    }
    shards.emplace(tensor, *file);
  }
  if (shards.empty()) return fail(ErrorCode::kCorrupt, "[shards] \"weight_map\" names no tensor ({})", origin);
  return shards;
}

Result<std::unique_ptr<WeightSource>> open_sharded(const std::filesystem::path& index, Config config,
                                                   const ShardOpener& open_shard) {
  KRAIT_ASSIGN(const MappedFile file, MappedFile::open(index));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  KRAIT_ASSIGN(const auto shard_names, parse_shard_index(text, file.name()));

  auto source = std::make_unique<ShardedSource>(file.name(), std::move(config));
  std::map<std::string, std::size_t> opened;
  for (const auto& [tensor, shard_name] : shard_names) {
    auto place = opened.find(shard_name);
    if (place == opened.end()) {
      KRAIT_ASSIGN(auto shard, open_shard(index.parent_path() / shard_name));
      place = opened.emplace(shard_name, source->add_shard(std::move(shard))).first;
    }
    const TensorInfo* info = source->shard(place->second).find(tensor);
    if (info == nullptr) {
      return fail(ErrorCode::kCorrupt, "[shards] the index puts tensor \"{}\" into \"{}\", which does not hold it ({})",
                  tensor, shard_name, file.name());
    }
    source->add_tensor(*info, place->second);
  }
  return source;
}

}  // namespace krait::formats
