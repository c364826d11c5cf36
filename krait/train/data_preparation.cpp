#include "krait/train/data_preparation.h"

#include "krait/formats/content_identity.h"
#include "krait/train/data_deduplication.h"
#include "krait/train/data_shard.h"
#include "krait/train/data_tokenizer.h"

namespace krait::train {
namespace {

namespace fs = std::filesystem;

Result<formats::TokenId> end_token(const std::string& name, const formats::Tokenizer& tokenizer) {
  if (const auto id = name.empty() ? end_of_text(tokenizer) : tokenizer.token_to_id(name)) return *id;
  return fail(ErrorCode::kInvalidArgument, "[data] the tokenizer has no token {} to put after documents",
              name.empty() ? "<|endoftext|>" : name);
}

Result<void> check(const PreparationOptions& options, const fs::path& folder) {
  if (!(options.likeness >= 0 && options.likeness <= 1)) {
    return fail(ErrorCode::kInvalidArgument, "[data] a likeness of {} is not from 0 to 1", options.likeness);
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(ErrorCode::kInputOutput, "[data] {} cannot be made: {}", folder.string(), error.message());
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".ktok") continue;
    return fail(ErrorCode::kInvalidArgument, "[data] {} holds shards already: {}", folder.string(),
                entry.path().filename().string());
  }
  return {};
}

// One shard after the other, each written when it is full.
Result<void> write_shards(std::span<const std::string_view> documents, const PreparationOptions& options,
                          const formats::Tokenizer& tokenizer, const fs::path& folder,
                          const PreparationProgress& progress, PreparationReport& report) {
  if (documents.empty()) {
    return fail(ErrorCode::kInvalidArgument, "[data] no document is left of {}", report.documents);
  }
  std::uint64_t total = 0;
  for (const std::string_view document : documents) total += document.size();
  formats::TokenId end = 0;
  if (options.end_tokens) {
    KRAIT_ASSIGN(end, end_token(options.end_token, tokenizer));
  }
  TokenShardWriter shard(tokenizer.size());
  for (std::size_t i = 0; i < documents.size(); ++i) {
    auto ids = tokenizer.encode(documents[i]);
    if (options.end_tokens) ids.push_back(end);
    KRAIT_TRY(shard.add(ids));
    report.tokens += static_cast<std::int64_t>(ids.size());
    report.text_bytes += documents[i].size();
    if (shard.tokens() >= options.shard_tokens || i + 1 == documents.size()) {
      report.provenance.shard = static_cast<std::int64_t>(report.shards.size());
      report.shards.push_back(folder / fmt::format("{:05}.ktok", report.provenance.shard));
      KRAIT_TRY(shard.write(report.shards.back(), report.provenance.tokenizer_identity, report.provenance.to_json()));
      shard = TokenShardWriter(tokenizer.size());
    }
    if (progress && !progress(report.text_bytes, total)) {
      return fail(ErrorCode::kCancelled, "[data] stopped after {} of {} bytes", report.text_bytes, total);
    }
  }
  return {};
}

}  // namespace

Result<PreparationReport> prepare_shards(const PreparationOptions& options, const formats::Tokenizer& tokenizer,
                                         const fs::path& folder, ThreadPool& pool,
                                         const PreparationProgress& progress) {
  KRAIT_TRY(check(options, folder));
  KRAIT_ASSIGN(const TextCollection texts, TextCollection::open(options.text));
  QualityFilter filter(options.quality);
  std::vector<std::string_view> documents;
  for (const std::string_view document : texts.documents()) {
    if (filter.keeps(document)) documents.push_back(document);
  }
  PreparationReport report;
  report.documents = static_cast<std::int64_t>(texts.documents().size());
  report.provenance.rules.assign(filter.rules().begin(), filter.rules().end());
  if (options.likeness > 0) {
    const Deduplication found = find_duplicates(documents, options.likeness, pool);
    report.duplicates = found.duplicates;
    report.provenance.rules.push_back({"near_duplicate", fmt::format("{}", options.likeness), found.duplicates});
    std::vector<std::string_view> kept;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      if (found.duplicate_of[i] < 0) kept.push_back(documents[i]);
    }
    documents = std::move(kept);
  }
  report.kept = static_cast<std::int64_t>(documents.size());
  report.provenance.sources.assign(texts.files().begin(), texts.files().end());
  report.provenance.tokenizer = options.tokenizer_path;
  report.provenance.tokenizer_identity = formats::tokenizer_identity(tokenizer);
  report.provenance.documents = report.kept;

  const auto written = write_shards(documents, options, tokenizer, folder, progress, report);
  if (!written) {
    std::error_code ignored;
    for (const fs::path& shard : report.shards) fs::remove(shard, ignored);
    return std::unexpected(written.error());
  }
  return report;
}

}  // namespace krait::train
