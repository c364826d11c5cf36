#include "krait/train/objective_loader.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "krait/train/data_permutation.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

Result<void> check_weights(std::span<const double> weights) {
  double sum = 0;
  for (const double weight : weights) {
    if (!std::isfinite(weight) || weight < 0) {
      return fail(ErrorCode::kInvalidArgument, "[objective] a weight of {} is below 0", weight);
    }
    sum += weight;
  }
  if (sum > 0) return {};
  return fail(ErrorCode::kInvalidArgument, "[objective] none of {} objectives has a weight above 0", weights.size());
}

Result<void> check_options(const ObjectiveLoaderOptions& options) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (options.batch < 1 || options.length < 1 || options.batch > kMost / options.length || options.piece < 1) {
    return fail(ErrorCode::kInvalidArgument, "[objective] a batch of {} rows of {} tokens in pieces of {}",
                options.batch, options.length, options.piece);
  }
  if (options.ranks < 1 || options.rank < 0 || options.rank >= options.ranks) {
    return fail(ErrorCode::kInvalidArgument, "[objective] rank {} of {}", options.rank, options.ranks);
  }
  return {};
}

// Of everything that decides which examples come. Who reads them is no part of it.
Hash128 identity_of(const std::vector<DataSource>& sources, const std::vector<WeightedObjective>& objectives,
                    const ObjectiveLoaderOptions& options) {
  Hasher hasher;
  feed_sources(hasher, sources);
  hasher.feed_number(options.length);
  hasher.feed_number(options.piece);
  hasher.feed_number(options.seed);
  for (const WeightedObjective& objective : objectives) {
    hasher.feed_text(objective.name);
    hasher.feed_number(objective.weight);
    for (const auto& [name, value] : objective.values) {
      hasher.feed_text(name);
      hasher.feed_number(value);
    }
  }
  return hasher.value();
}

}  // namespace

std::int64_t least_objective_room(std::int64_t length) {
  return std::min<std::int64_t>(length, std::max<std::int64_t>(4, length / 16));
}

std::vector<PackedPiece> document_pieces(const TokenCorpus& corpus, std::int64_t longest) {
  std::vector<PackedPiece> pieces;
  for (std::int64_t document = 0; document < corpus.documents(); ++document) {
    const std::int64_t length = corpus.length(document);
    for (std::int64_t begin = 0; begin < length; begin += longest) {
      pieces.push_back({document, begin, std::min(longest, length - begin)});
    }
  }
  return pieces;
}

Result<ObjectiveLoader> ObjectiveLoader::make(std::vector<DataSource> sources,
                                              std::vector<WeightedObjective> objectives,
                                              const ObjectiveLoaderOptions& options) {
  KRAIT_TRY(check_options(options));
  KRAIT_TRY(check_sources(sources, options.padding));
  std::vector<double> weights;
  for (const WeightedObjective& objective : objectives) weights.push_back(objective.weight);
  KRAIT_TRY(check_weights(weights));
  return ObjectiveLoader(std::move(sources), std::move(objectives), options);
}

ObjectiveLoader::ObjectiveLoader(std::vector<DataSource> sources, std::vector<WeightedObjective> objectives,
                                 const ObjectiveLoaderOptions& options)
    : sources_(std::move(sources)),
      objectives_(std::move(objectives)),
      options_(options),
      mixture_(weights_of(sources_)),
      counts_(objectives_.size()) {
  for (const DataSource& source : sources_) pieces_.push_back(document_pieces(source.corpus, options_.piece));
  for (const WeightedObjective& objective : objectives_) weights_.push_back(objective.weight);
  cursor_.data = identity_of(sources_, objectives_, options_);
  cursor_.places.resize(sources_.size());
}

Result<void> ObjectiveLoader::set_weights(std::span<const double> weights) {
  if (weights.size() != objectives_.size()) {
    return fail(ErrorCode::kInvalidArgument, "[objective] {} weights for {} objectives", weights.size(),
                objectives_.size());
  }
  KRAIT_TRY(check_weights(weights));
  weights_.assign(weights.begin(), weights.end());
  return {};
}

std::int64_t ObjectiveLoader::pieces(std::size_t source) const {
  return static_cast<std::int64_t>(pieces_[source].size());
}

std::int64_t ObjectiveLoader::all_pieces() const {
  std::int64_t all = 0;
  for (std::size_t s = 0; s < sources_.size(); ++s) all += pieces(s);
  return all;
}

std::size_t ObjectiveLoader::draw_objective(Random& random) const {
  double sum = 0;
  for (const double weight : weights_) sum += weight;
  double left = random.uniform() * sum;
  std::size_t last = 0;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] <= 0) continue;
    last = i;
    if (left < weights_[i]) return i;
    left -= weights_[i];
  }
  return last;  // rounding ate the rest
}

ObjectiveLoader::Drawn ObjectiveLoader::draw_piece(DataCursor& cursor) {
  std::vector<std::uint64_t> taken;
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    taken.push_back(cursor.places[s].epoch * static_cast<std::uint64_t>(pieces(s)) + cursor.places[s].position);
  }
  const std::size_t source = mixture_.next(taken);
  DataCursor::Place& place = cursor.places[source];
  // Sources of one size must not march in step.
  const std::uint64_t seed =
      source == 0 ? options_.seed : random_stream(options_.seed, {stream_name("pieces"), source}).next();
  const Permutation order(pieces(source), seed, place.epoch);
  const std::int64_t chosen = order(static_cast<std::int64_t>(place.position));
  Drawn drawn{.source = source,
              .piece = pieces_[source][static_cast<std::size_t>(chosen)],
              .random = random_stream(seed, {stream_name("objective"), place.epoch, place.position})};
  if (++place.position == static_cast<std::uint64_t>(pieces(source))) place = {place.epoch + 1, 0};
  return drawn;
}

Result<Batch> ObjectiveLoader::next() {
  DataCursor cursor = cursor_;
  auto counts = counts_;
  std::optional<Batch> own;
  std::vector<std::int32_t> ids;
  // What an example takes of a row depends on chance, so everybody packs the rows of all and keeps its own.
  for (std::int64_t rank = 0; rank < options_.ranks; ++rank) {
    BatchBuilder builder(options_.batch, options_.length, options_.padding);
    for (std::int64_t row = 0; row < options_.batch; ++row) {
      // Pieces that no objective can use must not hold a row up for ever.
      for (std::int64_t tried = 0; builder.space(row) >= least_objective_room(options_.length) && tried < all_pieces();
           ++tried) {
        Drawn drawn = draw_piece(cursor);
        ids.resize(static_cast<std::size_t>(drawn.piece.length));
        KRAIT_TRY(sources_[drawn.source].corpus.read(drawn.piece.document, drawn.piece.begin, ids));
        const std::size_t chosen = draw_objective(drawn.random);
        const auto made = objectives_[chosen].objective->transform(ids, builder.space(row), drawn.random);
        if (!made) continue;
        builder.add(row, made->example);
        ++counts[chosen].examples;
        counts[chosen].tokens += made->example.length();
        cursor.tokens += static_cast<std::uint64_t>(made->used);
      }
      ++cursor.rows;
    }
    if (rank == options_.rank) own = builder.finish();
  }
  cursor_ = std::move(cursor);
  counts_ = std::move(counts);
  return *std::move(own);
}

Result<void> ObjectiveLoader::seek(const DataCursor& cursor) {
  if (cursor.data != cursor_.data || cursor.places.size() != sources_.size()) {
    return fail(ErrorCode::kInvalidArgument,
                "[objective] the place to go on from is in other data, of other objectives, or in another order of "
                "them: {} not {}",
                cursor.data.hex(), cursor_.data.hex());
  }
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    if (cursor.places[s].position >= static_cast<std::uint64_t>(pieces(s))) {
      return fail(ErrorCode::kCorrupt, "[objective] piece {} of source '{}', which has {}", cursor.places[s].position,
                  sources_[s].name, pieces(s));
    }
  }
  cursor_ = cursor;
  return {};
}

std::vector<std::uint64_t> ObjectiveLoader::place() const {
  std::vector<std::uint64_t> numbers = cursor_.numbers();
  for (std::size_t i = 0; i < objectives_.size(); ++i) {
    numbers.push_back(std::bit_cast<std::uint64_t>(weights_[i]));
    numbers.push_back(static_cast<std::uint64_t>(counts_[i].examples));
    numbers.push_back(static_cast<std::uint64_t>(counts_[i].tokens));
  }
  return numbers;
}

Result<void> ObjectiveLoader::seek(std::span<const std::uint64_t> place) {
  constexpr std::size_t kEach = 3;  // numbers of an objective, as place() has them
  const std::size_t all = kEach * objectives_.size(), of_cursor = cursor_.numbers().size();
  if (place.size() != of_cursor + all) {
    return fail(ErrorCode::kInvalidArgument,
                "[objective] a place of {} numbers: it is in other data than these {} sources and {} objectives",
                place.size(), sources_.size(), objectives_.size());
  }
  KRAIT_ASSIGN(const DataCursor cursor, DataCursor::from_numbers(place.first(place.size() - all)));
  std::vector<double> weights;
  std::vector<ObjectiveCount> counts;
  for (std::size_t i = place.size() - all; i < place.size(); i += kEach) {
    weights.push_back(std::bit_cast<double>(place[i]));
    counts.push_back({static_cast<std::int64_t>(place[i + 1]), static_cast<std::int64_t>(place[i + 2])});
  }
  KRAIT_TRY(check_weights(weights));
  KRAIT_TRY(seek(cursor));
  weights_ = std::move(weights);
  counts_ = std::move(counts);
  return {};
}

}  // namespace krait::train
