#include "krait/train/data_loader.h"

#include <cmath>

#include "krait/core/check.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

// Of everything that decides which row comes when. How many rows make a batch, and who reads them, is no part of it.
Hash128 identity_of(const std::vector<DataSource>& sources, const DataLoaderOptions& options) {
  Hasher hasher;
  feed_sources(hasher, sources);
  hasher.feed_number(options.length);
  hasher.feed_number(options.seed);
  hasher.feed_number(static_cast<std::uint8_t>(options.shuffle));
  hasher.feed_number(static_cast<std::uint8_t>(options.repeat));
  return hasher.value();
}

Result<void> check(const DataLoaderOptions& options) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;  // tokens of a batch
  if (options.batch < 1 || options.length < 1 || options.batch > kMost / options.length) {
    return fail(ErrorCode::kInvalidArgument, "[data] a batch of {} rows of {} tokens: 1 to {} tokens in all",
                options.batch, options.length, kMost);
  }
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks) {
    return fail(ErrorCode::kInvalidArgument, "[data] rank {} of {}", options.rank, options.ranks);
  }
  return {};
}

}  // namespace

std::vector<double> weights_of(const std::vector<DataSource>& sources) {
  std::vector<double> weights;
  for (const DataSource& source : sources) weights.push_back(source.weight);
  return weights;
}

void feed_sources(Hasher& hasher, const std::vector<DataSource>& sources) {
  for (const DataSource& source : sources) {
    const Hash128 corpus = source.corpus.identity();
    hasher.feed_number(corpus.high);
    hasher.feed_number(corpus.low);
    hasher.feed_number(source.weight);
  }
}

Result<void> check_sources(const std::vector<DataSource>& sources, std::int32_t padding) {
  if (sources.empty()) return fail(ErrorCode::kInvalidArgument, "[data] no sources");
  const TokenCorpus& first = sources.front().corpus;
  for (const DataSource& source : sources) {
    if (!std::isfinite(source.weight) || source.weight <= 0) {
      return fail(ErrorCode::kInvalidArgument, "[data] weight {} of source '{}' is not above 0", source.weight,
                  source.name);
    }
    if (source.corpus.tokens() == 0) {
      return fail(ErrorCode::kInvalidArgument, "[data] source '{}' holds no tokens", source.name);
    }
    if (source.corpus.tokenizer() != first.tokenizer() || source.corpus.vocabulary() != first.vocabulary()) {
      return fail(ErrorCode::kInvalidArgument, "[data] source '{}' was not made with the tokenizer of source '{}'",
                  source.name, sources.front().name);
    }
  }
  if (padding < 0 || padding >= first.vocabulary()) {
    return fail(ErrorCode::kInvalidArgument, "[data] padding with token {}, outside a vocabulary of {}", padding,
                first.vocabulary());
  }
  return {};
}

Result<DataLoader> DataLoader::make(std::vector<DataSource> sources, const DataLoaderOptions& options) {
  KRAIT_TRY(check(options));
  KRAIT_TRY(check_sources(sources, options.padding));
  return DataLoader(std::move(sources), options);
}

DataLoader::DataLoader(std::vector<DataSource> sources, const DataLoaderOptions& options)
    : sources_(std::move(sources)), options_(options), mixture_(weights_of(sources_)) {
  cursor_.data = identity_of(sources_, options_);
  cursor_.places.resize(sources_.size());
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    packings_.emplace_back(sources_[s].corpus.lengths(), options_.length);
    orders_.push_back({0, Permutation(0, 0, 0)});
    set_order(s, 0);
  }
}

void DataLoader::set_order(std::size_t source, std::uint64_t epoch) {
  // Sources of one size must not march in step.
  const std::uint64_t seed = random_stream(options_.seed, {stream_name("rows"), source}).next();
  orders_[source] = {epoch, Permutation(packings_[source].rows(), seed, epoch)};
}

std::int64_t DataLoader::rows() const {
  std::int64_t rows = 0;
  for (const Packing& packing : packings_) rows += packing.rows();
  return rows;
}

std::size_t DataLoader::source_of_next(const DataCursor& cursor) const {
  if (!options_.repeat) {
    std::size_t source = 0;
    while (source < sources_.size() && cursor.places[source].epoch > 0) ++source;
    return source;
  }
  std::vector<std::uint64_t> taken;
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    taken.push_back(cursor.places[s].epoch * static_cast<std::uint64_t>(packings_[s].rows()) +
                    cursor.places[s].position);
  }
  return mixture_.next(taken);
}

// The row at the cursor, which moves behind it.
DataLoader::RowPlace DataLoader::step(DataCursor& cursor) {
  const std::size_t source = source_of_next(cursor);
  if (source == sources_.size()) return {source, 0};
  DataCursor::Place& place = cursor.places[source];
  if (orders_[source].epoch != place.epoch) set_order(source, place.epoch);
  auto row = static_cast<std::int64_t>(place.position);
  if (options_.shuffle) row = orders_[source].permutation(row);
  ++cursor.rows;
  for (const PackedPiece& piece : packings_[source].row(row)) {
    cursor.tokens += static_cast<std::uint64_t>(piece.length);
  }
  if (++place.position == static_cast<std::uint64_t>(packings_[source].rows())) place = {place.epoch + 1, 0};
  return {source, row};
}

Result<Batch> DataLoader::next() {
  DataCursor cursor = cursor_;
  std::vector<RowPlace> own;
  for (std::int64_t i = 0; i < options_.batch * options_.ranks; ++i) {
    const RowPlace place = step(cursor);
    if (place.source == sources_.size()) break;
    if (i / options_.batch == options_.rank) own.push_back(place);
  }
  BatchBuilder builder(static_cast<std::int64_t>(own.size()), options_.length, options_.padding);
  for (std::size_t row = 0; row < own.size(); ++row) {
    KRAIT_TRY(add_row(own[row], static_cast<std::int64_t>(row), builder));
  }
  cursor_ = std::move(cursor);
  return builder.finish();
}

Result<void> DataLoader::add_row(const RowPlace& place, std::int64_t row, BatchBuilder& builder) const {
  const TokenCorpus& corpus = sources_[place.source].corpus;
  for (const PackedPiece& piece : packings_[place.source].row(place.row)) {
    const bool goes_on = piece.begin + piece.length < corpus.length(piece.document);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(piece.length + (goes_on ? 1 : 0)));
    KRAIT_TRY(corpus.read(piece.document, piece.begin, ids));
    std::vector<std::int32_t> labels(ids.begin() + 1, ids.end());
    if (goes_on) {
      ids.pop_back();
    } else {
      labels.push_back(kNoLabel);
    }
    builder.add(row, ids, labels);
  }
  return {};
}

Result<void> DataLoader::seek(const DataCursor& cursor) {
  if (cursor.data != cursor_.data || cursor.places.size() != sources_.size()) {
    return fail(ErrorCode::kInvalidArgument,
                "[data] the place to go on from is in other data, or in another order of them: {} of {} sources, not "
                "{} of {}",
                cursor.data.hex(), cursor.places.size(), cursor_.data.hex(), sources_.size());
  }
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    const auto rows = static_cast<std::uint64_t>(packings_[s].rows());
    if (cursor.places[s].position >= rows) {
      return fail(ErrorCode::kCorrupt, "[data] row {} of source '{}', which has {}", cursor.places[s].position,
                  sources_[s].name, rows);
    }
  }
  cursor_ = cursor;
  return {};
}

}  // namespace krait::train
