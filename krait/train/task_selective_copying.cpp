// Selective copying (Gu and Dao 2023, "Mamba", section 4.1.1, after Jing et al. 2019): some places of a long sequence
// hold symbols, the rest is noise; at the markers that follow, the symbols are asked for in their order. A model whose
// dynamics do not depend on the input cannot know which places count.
//
//   noise 3 noise noise 1 3 noise | marker marker marker  ->  3 1 3 at the markers
#include <algorithm>

#include "krait/train/random_stream.h"
#include "krait/train/row_count.h"
#include "krait/train/task_list.h"

namespace krait::train {
namespace {

class SelectiveCopying final : public Task {
 public:
  SelectiveCopying(std::int64_t length, RowCount count, std::int64_t symbols)
      : length_(length), count_(count), symbols_(symbols) {}

  std::int64_t vocabulary() const override { return kFirstSymbol + symbols_; }
  std::int64_t longest() const override { return length_ + count_.most; }

  Example example(std::uint64_t seed, std::uint64_t index) const override {
    Random random = random_stream(seed, {stream_name(kSelectiveCopying.name), index});
    Example example;
    example.ids.assign(static_cast<std::size_t>(length_), kNoise);
    example.labels.assign(static_cast<std::size_t>(length_), kNoLabel);
    auto places = distinct_below(random, length_, count_.draw(random));
    std::ranges::sort(places);
    for (const std::int64_t place : places) {
      const auto symbol = static_cast<std::int32_t>(kFirstSymbol + between(random, 0, symbols_ - 1));
      example.ids[static_cast<std::size_t>(place)] = symbol;
      example.ids.push_back(kMarker);
      example.labels.push_back(symbol);
    }
    return example;
  }

  std::string spell(std::int32_t token) const override {
    if (token == kNoise) return "noise";
    return token == kMarker ? "marker" : fmt::format("{}", token - kFirstSymbol);
  }

 private:
  static constexpr std::int32_t kNoise = 0, kMarker = 1, kFirstSymbol = 2;
  std::int64_t length_;
  RowCount count_;
  std::int64_t symbols_;
};

Result<std::unique_ptr<Task>> make(const TaskValues& values) {
  const std::int64_t length = values.at("length"), count = values.at("count");
  if (count > length) {
    return fail(ErrorCode::kInvalidArgument, "[task] selective_copying: {} symbols do not fit in {} places", count,
                length);
  }
  KRAIT_ASSIGN(const RowCount of_row, RowCount::read("selective_copying", values, "fewest", "count"));
  return std::make_unique<SelectiveCopying>(length, of_row, values.at("symbols"));
}

}  // namespace

const TaskKind kSelectiveCopying = {"selective_copying",
                                    "repeat the symbols that stand among noise",
                                    {{"length", 256, 1, 1 << 20, "places for symbols and noise"},
                                     {"count", 16, 1, 1 << 16, "symbols to repeat"},
                                     {"fewest", 0, 0, 1 << 16, "of rows with fewer of them; 0: all have `count`"},
                                     {"symbols", 14, 1, 1 << 16, "different symbols"}},
                                    make};

}  // namespace krait::train
