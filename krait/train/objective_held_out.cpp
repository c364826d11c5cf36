#include "krait/train/objective_held_out.h"

#include <algorithm>

#include "krait/train/data_permutation.h"
#include "krait/train/random_stream.h"

namespace krait::train {
namespace {

// Not the run's: other seeds of training must not change what they are measured by.
constexpr std::uint64_t kSeed = 0x68656c64;

Result<std::vector<std::vector<std::int32_t>>> read_pieces(const std::vector<DataSource>& sources,
                                                           const HeldOutOptions& options) {
  struct Place {
    std::size_t source;
    PackedPiece piece;
  };
  std::vector<Place> places;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    for (const PackedPiece& piece : document_pieces(sources[s].corpus, options.piece)) places.push_back({s, piece});
  }
  const auto there = static_cast<std::int64_t>(places.size());
  const Permutation order(there, kSeed, 0);
  std::vector<std::vector<std::int32_t>> pieces;
  for (std::int64_t i = 0; i < std::min(options.pieces, there); ++i) {
    const Place& place = places[static_cast<std::size_t>(order(i))];
    std::vector<std::int32_t> ids(static_cast<std::size_t>(place.piece.length));
    KRAIT_TRY(sources[place.source].corpus.read(place.piece.document, place.piece.begin, ids));
    pieces.push_back(std::move(ids));
  }
  return pieces;
}

// One after the other into rows, rows into batches of `batch`.
std::vector<Batch> pack(std::span<const Example> examples, const HeldOutOptions& options) {
  std::vector<std::vector<const Example*>> rows;
  std::int64_t space = 0;
  for (const Example& example : examples) {
    if (example.length() > space) {
      rows.emplace_back();
      space = options.length;
    }
    rows.back().push_back(&example);
    space -= example.length();
  }
  std::vector<Batch> batches;
  for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(options.batch)) {
    const std::size_t count = std::min(static_cast<std::size_t>(options.batch), rows.size() - first);
    BatchBuilder builder(static_cast<std::int64_t>(count), options.length, options.padding);
    for (std::size_t row = 0; row < count; ++row) {
      for (const Example* example : rows[first + row]) builder.add(static_cast<std::int64_t>(row), *example);
    }
    batches.push_back(builder.finish());
  }
  return batches;
}

}  // namespace

Result<std::vector<HeldOutObjective>> hold_out(std::vector<DataSource> sources,
                                               std::span<const WeightedObjective> objectives,
                                               const HeldOutOptions& options) {
  KRAIT_TRY(check_sources(sources, options.padding));
  KRAIT_ASSIGN(const auto pieces, read_pieces(sources, options));
  std::vector<HeldOutObjective> all;
  for (const WeightedObjective& objective : objectives) {
    std::vector<Example> examples;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      // The chance of a piece is the same for all: two infillings of other shares hide what they can in common.
      Random random = random_stream(kSeed, {stream_name("objective"), i});
      auto made = objective.objective->transform(pieces[i], options.length, random);
      if (made) examples.push_back(std::move(made->example));
    }
    if (examples.empty()) {
      return fail(ErrorCode::kInvalidArgument,
                  "[objective] of {} held-out pieces none is long enough for {}: [data] piece and length bound them",
                  pieces.size(), objective.name);
    }
    all.push_back({objective.name, pack(examples, options), static_cast<std::int64_t>(examples.size())});
  }
  return all;
}

}  // namespace krait::train
