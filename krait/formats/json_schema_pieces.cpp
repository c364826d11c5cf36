#include "krait/formats/json_schema_pieces.h"

#include <algorithm>

#include "krait/formats/json_schema_scalars.h"

namespace krait::formats {

using Expression = Grammar::Expression;

Expression JsonPieces::space() {
  if (space_ == JsonSpace::kNone) return grammar_.empty();
  return grammar_.optional(grammar_.choice({grammar_.bytes(' ', ' '), grammar_.bytes('\n', '\n')}));
}

Expression JsonPieces::comma() { return grammar_.sequence({grammar_.literal(","), space()}); }

Expression JsonPieces::quoted(Expression inner) {
  const Expression quote = grammar_.bytes('"', '"');
  return grammar_.sequence({quote, inner, quote});
}

Expression JsonPieces::free_string() {
  return quoted(grammar_.repeat(add_json_character(grammar_), 0, Grammar::kUnlimited));
}

Expression JsonPieces::member(Expression key, Expression value) {
  return grammar_.sequence({key, grammar_.literal(":"), space(), value});
}

Expression JsonPieces::enclosed(const char* open, Expression inner, const char* close) {
  return grammar_.sequence({grammar_.literal(open), space(), inner, space(), grammar_.literal(close)});
}

Expression JsonPieces::list(Expression part, std::int32_t least, std::int32_t most) {
  if (most == 0) return grammar_.empty();
  const Expression more = grammar_.repeat(grammar_.sequence({comma(), part}), std::max(least - 1, 0),
                                          most == Grammar::kUnlimited ? most : most - 1);
  const Expression some = grammar_.sequence({part, more});
  return least == 0 ? grammar_.optional(some) : some;
}

Expression JsonPieces::map(Expression key, Expression value, std::int32_t least, std::int32_t most) {
  return enclosed("{", list(member(key, value), least, most), "}");
}

Expression JsonPieces::any_value() {
  if (any_value_ < 0) {
    any_value_ = grammar_.add_rule("any value", true);
    const Expression self = grammar_.call(any_value_);
    grammar_.set_body(any_value_,
                      grammar_.choice({map(free_string(), self, 0, Grammar::kUnlimited),
                                       enclosed("[", list(self, 0, Grammar::kUnlimited), "]"), free_string(),
                                       add_json_number(grammar_, false, std::nullopt, std::nullopt),
                                       grammar_.literal("true"), grammar_.literal("false"), grammar_.literal("null")}));
  }
  return grammar_.call(any_value_);
}

Expression JsonPieces::given(const SchemaJson& value) {
  std::vector<Expression> parts;
  if (value.is_string()) return quoted(grammar_.text(value.get<std::string>(), Spelling::kJsonString));
  if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      if (!parts.empty()) parts.push_back(comma());
      parts.push_back(member(quoted(grammar_.text(key, Spelling::kJsonString)), given(inner)));
    }
    return enclosed("{", grammar_.sequence(std::move(parts)), "}");
  }
  if (value.is_array()) {
    for (const SchemaJson& inner : value) {
      if (!parts.empty()) parts.push_back(comma());
      parts.push_back(given(inner));
    }
    return enclosed("[", grammar_.sequence(std::move(parts)), "]");
  }
  return grammar_.literal(value.dump());
}

Expression JsonPieces::character() {
  if (character_ < 0) {
    character_ = grammar_.add_rule("character", false);
    grammar_.set_body(character_, add_json_character(grammar_));
  }
  return grammar_.call(character_);
}

}  // namespace krait::formats
