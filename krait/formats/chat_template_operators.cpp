#include "krait/formats/chat_template_operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace krait::formats::jinja {
namespace {

[[noreturn]] void refuse_overflow() { refuse("a number has more than 64 bits"); }

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  if (a == std::numeric_limits<std::int64_t>::min() && b == -1) refuse_overflow();
  return a / b - static_cast<std::int64_t>(a % b != 0 && (a % b < 0) != (b < 0));
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  for (;;) {
    if (exponent % 2 != 0 && __builtin_mul_overflow(result, base, &result)) refuse_overflow();
    exponent /= 2;
    if (exponent == 0) return result;
    if (__builtin_mul_overflow(base, base, &base)) refuse_overflow();
  }
}

// The remainder has the sign of the divisor.
double modulo(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

Value whole_arithmetic(char name, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflows = false;
  switch (name) {
    case '+': overflows = __builtin_add_overflow(a, b, &result); break;
    case '-': overflows = __builtin_sub_overflow(a, b, &result); break;
    case '*': overflows = __builtin_mul_overflow(a, b, &result); break;
    case 'f': return floor_divide(a, b);
    case '%': return b == -1 ? 0 : a - floor_divide(a, b) * b;
    default:
      if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
      return power(a, b);
  }
  if (overflows) refuse_overflow();
  return result;
}

Value arithmetic(std::string_view name, const Value& a, const Value& b) {
  const char letter = name == "//" ? 'f' : name == "**" ? 'p' : name.front();
  const bool divides = letter == '/' || letter == 'f' || letter == '%';
  if (divides && b.number() == 0) refuse("division by zero");
  if (letter == 'p' && a.number() == 0 && b.number() < 0) refuse("0 to a negative power");
  if (a.is_whole() && b.is_whole() && letter != '/') return whole_arithmetic(letter, a.whole(), b.whole());
  const double x = a.number();
  const double y = b.number();
  switch (letter) {
    case '+': return x + y;
    case '-': return x - y;
    case '*': return x * y;
    case '/': return x / y;
    case 'f': return std::floor((x - modulo(x, y)) / y + 0.5);
    case '%': return modulo(x, y);
    default: {
      const double result = std::pow(x, y);
      if (std::isnan(result) && !std::isnan(x) && !std::isnan(y)) refuse("a root of a negative number");
      return result;
    }
  }
}

Value repeat(const Value& value, std::int64_t count, Budget& budget) {
  const std::size_t size = value.is_string() ? value.text().size() : value.items().size();
  const auto times = static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0));
  if (size > 0 && times > std::numeric_limits<std::uint64_t>::max() / size / 2) refuse_overflow();
  value.is_string() ? budget.spend_text(size * times) : budget.spend(size * times);
  if (value.is_string()) {
    std::string text;
    if (size > 0) text.reserve(size * times);
    for (std::uint64_t i = 0; size > 0 && i < times; ++i) text += value.text();
    return text;
  }
  Values items;
  for (std::uint64_t i = 0; size > 0 && i < times; ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.is_tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
}

}  // namespace

Value apply_binary(std::string_view name, const Value& a, const Value& b, Budget& budget) {
  if (name == "~") return to_text(a, budget) + to_text(b, budget);
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) refuse("{}", value->undefined());
  }
  if (a.is_number() && b.is_number()) return arithmetic(name, a, b);
  if (name == "+" && a.is_string() && b.is_string()) {
    budget.spend_text(a.text().size() + b.text().size());
    return a.text() + b.text();
  }
  if (name == "+" && a.is_sequence() && b.is_sequence() && a.is_tuple() == b.is_tuple()) {
    budget.spend(a.items().size() + b.items().size());
    Values items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return a.is_tuple() ? Value::tuple(std::move(items)) : Value::list(std::move(items));
  }
  if (name == "*" && b.is_whole() && (a.is_string() || a.is_sequence())) return repeat(a, b.whole(), budget);
  if (name == "*" && a.is_whole() && (b.is_string() || b.is_sequence())) return repeat(b, a.whole(), budget);
  refuse("{} is not defined between a {} and a {}", name, a.type_name(), b.type_name());
}

Value apply_sign(std::string_view name, const Value& value) {
  if (value.is_undefined()) refuse("{}", value.undefined());
  if (!value.is_number()) refuse("a {} has no sign", value.type_name());
  if (value.is_float()) return name == "-" ? -value.number() : value.number();
  return whole_arithmetic(name.front(), 0, value.whole());
}

bool apply_comparison(std::string_view name, const Value& a, const Value& b, Budget& budget) {
  if (name == "==") return equal(a, b, budget);
  if (name == "!=") return !equal(a, b, budget);
  if (name == "in") return contains(b, a, budget);
  if (name == "not in") return !contains(b, a, budget);
  const int order = compare(a, b, budget);
  if (name == "<") return order < 0;
  if (name == "<=") return order <= 0;
  if (name == ">") return order > 0;
  return order >= 0;
}

}  // namespace krait::formats::jinja
