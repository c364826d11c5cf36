// Arithmetic and comparison as Python does it on ints, floats, strings and lists. Ints have 64 bits here; past these
// they are refused.
#pragma once

#include <string_view>

#include "krait/formats/chat_template_value.h"

namespace krait::formats::jinja {

// + - * / // % ** ~
Value apply_binary(std::string_view name, const Value& a, const Value& b, Budget& budget);
// + -
Value apply_sign(std::string_view name, const Value& value);
// == != < <= > >= in, not in
bool apply_comparison(std::string_view name, const Value& a, const Value& b, Budget& budget);

}  // namespace krait::formats::jinja
