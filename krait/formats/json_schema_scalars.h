// The strings and numbers of JSON (RFC 8259) as expressions of a Grammar, with the bounds that schemas put on them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/error.h"
#include "krait/formats/grammar.h"

namespace krait::formats {

// One character of a JSON string in any of its spellings.
Grammar::Expression add_json_character(Grammar& grammar);

// A string that is none of `texts`, with its quotes; characters have one spelling each.
Grammar::Expression add_json_string_except(Grammar& grammar, std::vector<std::string> texts);

// The regular expression of a "format"; nothing for one that krait does not know.
std::optional<std::string_view> regex_of_json_format(std::string_view format);
std::string_view known_json_formats();  // for messages

// A number as digits: krait writes no others where bounds are to be kept.
struct Decimal {
  bool is_negative = false;
  std::string whole = "0";  // no leading zeros
  std::string fraction;     // no trailing zeros

  bool is_zero() const { return whole == "0" && fraction.empty(); }
};
// From JSON's spelling. kUnsupported for more digits than kWholeDigits and kFractionDigits.
Result<Decimal> parse_decimal(std::string_view json);

inline constexpr std::size_t kWholeDigits = 18;  // what a 64-bit integer holds, whatever its digits
// Of a number that is no integer, both sides of the point together: what a double tells apart.
inline constexpr std::size_t kFractionDigits = 15;

struct NumberBound {
  Decimal value;
  bool is_exclusive = false;
};
// Any number of the kind where there are no bounds, with an exponent too where it is no integer.
Grammar::Expression add_json_number(Grammar& grammar, bool is_integer, const std::optional<NumberBound>& low,
                                    const std::optional<NumberBound>& high);

}  // namespace krait::formats
