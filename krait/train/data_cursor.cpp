#include "krait/train/data_cursor.h"

namespace krait::train {

std::vector<std::uint64_t> DataCursor::numbers() const {
  std::vector<std::uint64_t> numbers = {data.high, data.low, rows, tokens};
  for (const Place& place : places) {
    numbers.push_back(place.epoch);
    numbers.push_back(place.position);
  }
  return numbers;
}

Result<DataCursor> DataCursor::from_numbers(std::span<const std::uint64_t> numbers) {
  constexpr std::size_t kFixed = 4;
  if (numbers.size() < kFixed + 2 || numbers.size() % 2 != 0) {
    return fail(ErrorCode::kCorrupt, "[data] {} numbers are no place in data: 4 and 2 for each source", numbers.size());
  }
  DataCursor cursor;
  cursor.data = {numbers[0], numbers[1]};
  cursor.rows = numbers[2];
  cursor.tokens = numbers[3];
  for (std::size_t i = kFixed; i < numbers.size(); i += 2) cursor.places.push_back({numbers[i], numbers[i + 1]});
  return cursor;
}

}  // namespace krait::train
