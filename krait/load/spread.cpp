#include "krait/load/spread.h"

#include <charconv>
#include <cmath>
#include <optional>

namespace krait::load {
namespace {

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0) return std::nullopt;
  return value;
}

}  // namespace

Result<Spread> Spread::parse(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorCode::kInvalidArgument, "[load] \"{}\" is none of N, LEAST-MOST, exp:MEAN, lognormal:MEAN:CV",
                text);
  };
  Spread spread;
  std::optional<double> first, second;
  if (text.starts_with("exp:")) {
    spread.kind_ = Kind::exponential;
    first = second = number(text.substr(4));
  } else if (text.starts_with("lognormal:")) {
    spread.kind_ = Kind::lognormal;
    const std::string_view rest = text.substr(10);
    const std::size_t colon = rest.find(':');
    if (colon == std::string_view::npos) return wrong();
    first = number(rest.substr(0, colon));
    second = number(rest.substr(colon + 1));
  } else {
    const std::size_t dash = text.find('-');
    first = number(text.substr(0, dash));
    second = dash == std::string_view::npos ? first : number(text.substr(dash + 1));
    if (first && second && *second < *first) return wrong();
  }
  if (!first || !second) return wrong();
  spread.first_ = *first;
  spread.second_ = *second;
  return spread;
}

double Spread::draw(Random& random) const {
  switch (kind_) {
    case Kind::uniform: return first_ + (second_ - first_) * random.uniform();
    case Kind::exponential: return -first_ * std::log(1 - random.uniform());
    case Kind::lognormal: {
      if (first_ == 0) return 0;
      // Of mean m and coefficient of variation c: sigma² = ln(1 + c²), mu = ln m - sigma²/2.
      const double variance = std::log1p(second_ * second_);
      return std::exp(std::log(first_) - variance / 2 + std::sqrt(variance) * random.normal());
    }
  }
  return first_;
}

double Spread::mean() const { return kind_ == Kind::uniform ? (first_ + second_) / 2 : first_; }

}  // namespace krait::load
