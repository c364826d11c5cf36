#include "krait/train/objective_loader.h"

#include <algorithm>
#include <cmath>

#include "krait/train/data_permutation.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

// Of what a row has left at its end no example is made: many objectives need more, and short ones teach little.
std::int64_t least_space(std::int64_t length) {
  return std::min<std::int64_t>(length, std::max<std::int64_t>(4, length / 16));
}

std::vector<PackedPiece> pieces_of(const TokenCorpus& corpus, std::int64_t longest) {
  std::vector<PackedPiece> pieces;
  for (std::int64_t document = 0; document < corpus.documents(); ++document) {
    const std::int64_t length = corpus.length(document);
    for (std::int64_t begin = 0; begin < length; begin += longest) {
      pieces.push_back({document, begin, std::min(longest, length - begin)});
    }
  }
  return pieces;
}

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

}  // namespace

Result<ObjectiveLoader> ObjectiveLoader::make(TokenCorpus corpus, std::vector<WeightedObjective> objectives,
                                              const ObjectiveLoaderOptions& options) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (options.batch < 1 || options.length < 1 || options.batch > kMost / options.length || options.piece < 1) {
    return fail(ErrorCode::kInvalidArgument, "[objective] a batch of {} rows of {} tokens in pieces of {}",
                options.batch, options.length, options.piece);
  }
  if (corpus.tokens() == 0) return fail(ErrorCode::kInvalidArgument, "[objective] the data hold no tokens");
  if (options.padding < 0 || options.padding >= corpus.vocabulary()) {
    return fail(ErrorCode::kInvalidArgument, "[objective] padding with token {}, outside a vocabulary of {}",
                options.padding, corpus.vocabulary());
  }
  std::vector<double> weights;
  for (const WeightedObjective& objective : objectives) weights.push_back(objective.weight);
  KRAIT_TRY(check_weights(weights));
  return ObjectiveLoader(std::move(corpus), std::move(objectives), options);
}

ObjectiveLoader::ObjectiveLoader(TokenCorpus corpus, std::vector<WeightedObjective> objectives,
                                 const ObjectiveLoaderOptions& options)
    : corpus_(std::move(corpus)),
      objectives_(std::move(objectives)),
      options_(options),
      pieces_(pieces_of(corpus_, options.piece)),
      counts_(objectives_.size()) {
  Hasher hasher;
  const Hash128 identity = corpus_.identity();
  hasher.feed_number(identity.high);
  hasher.feed_number(identity.low);
  hasher.feed_number(options_.length);
  hasher.feed_number(options_.piece);
  hasher.feed_number(options_.seed);
  for (const WeightedObjective& objective : objectives_) hasher.feed_text(objective.name);
  cursor_.data = hasher.value();
  cursor_.places.resize(1);
}

Result<void> ObjectiveLoader::set_weights(std::span<const double> weights) {
  if (weights.size() != objectives_.size()) {
    return fail(ErrorCode::kInvalidArgument, "[objective] {} weights for {} objectives", weights.size(),
                objectives_.size());
  }
  KRAIT_TRY(check_weights(weights));
  for (std::size_t i = 0; i < weights.size(); ++i) objectives_[i].weight = weights[i];
  return {};
}

std::size_t ObjectiveLoader::draw(Random& random) const {
  double sum = 0;
  for (const WeightedObjective& objective : objectives_) sum += objective.weight;
  double left = random.uniform() * sum;
  std::size_t last = 0;
  for (std::size_t i = 0; i < objectives_.size(); ++i) {
    if (objectives_[i].weight <= 0) continue;
    last = i;
    if (left < objectives_[i].weight) return i;
    left -= objectives_[i].weight;
  }
  return last;  // rounding ate the rest
}

Result<Batch> ObjectiveLoader::next() {
  DataCursor cursor = cursor_;
  auto counts = counts_;
  BatchBuilder builder(options_.batch, options_.length, options_.padding);
  DataCursor::Place& place = cursor.places.front();
  std::optional<Permutation> order;
  std::vector<std::int32_t> ids;
  for (std::int64_t row = 0; row < options_.batch; ++row) {
    // Pieces that no objective can use must not hold a row up for ever.
    for (std::int64_t tried = 0; builder.space(row) >= least_space(options_.length) && tried < pieces(); ++tried) {
      if (!order) order.emplace(pieces(), options_.seed, place.epoch);
      const PackedPiece& piece = pieces_[static_cast<std::size_t>((*order)(static_cast<std::int64_t>(place.position)))];
      Random random = random_stream(options_.seed, {stream_name("objective"), place.epoch, place.position});
      if (++place.position == static_cast<std::uint64_t>(pieces())) {
        place = {place.epoch + 1, 0};
        order.reset();
      }
      ids.resize(static_cast<std::size_t>(piece.length));
      KRAIT_TRY(corpus_.read(piece.document, piece.begin, ids));
      const std::size_t chosen = draw(random);
      const auto made = objectives_[chosen].objective->transform(ids, builder.space(row), random);
      if (!made) continue;
      builder.add(row, made->example);
      ++counts[chosen].examples;
      counts[chosen].tokens += made->example.length();
      cursor.tokens += static_cast<std::uint64_t>(made->used);
    }
    ++cursor.rows;
  }
  cursor_ = std::move(cursor);
  counts_ = std::move(counts);
  return builder.finish();
}

Result<void> ObjectiveLoader::seek(const DataCursor& cursor) {
  if (cursor.data != cursor_.data || cursor.places.size() != 1 ||
      cursor.places.front().position >= static_cast<std::uint64_t>(pieces())) {
    return fail(ErrorCode::kInvalidArgument,
                "[objective] the place to go on from is in other data, or in another order of them: {} not {}",
                cursor.data.hex(), cursor_.data.hex());
  }
  cursor_ = cursor;
  return {};
}

}  // namespace krait::train
