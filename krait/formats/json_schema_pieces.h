// The texts of JSON's values as expressions of a grammar: what schemas are put together from.
#pragma once

#include <cstdint>

#include "krait/formats/grammar.h"
#include "krait/formats/json_schema.h"
#include "krait/formats/json_schema_keywords.h"

namespace krait::formats {

class JsonPieces {
 public:
  using Expression = Grammar::Expression;

  // `grammar` outlives the pieces, which are added to it.
  JsonPieces(Grammar& grammar, JsonSpace space) : grammar_(grammar), space_(space) {}

  Expression comma();
  Expression quoted(Expression inner);
  Expression free_string();  // any
  Expression character();    // one of a string, in any of its spellings
  Expression member(Expression key, Expression value);
  Expression enclosed(const char* open, Expression inner, const char* close);
  // least … most of `part`, with commas.
  Expression list(Expression part, std::int32_t least, std::int32_t most);
  Expression map(Expression key, Expression value, std::int32_t least, std::int32_t most);
  // Any JSON value, as one rule that calls itself.
  Expression any_value();
  // A value that is given, in its one spelling.
  Expression given(const SchemaJson& value);

 private:
  Expression space();

  Grammar& grammar_;
  const JsonSpace space_;
  std::int32_t any_value_ = -1, character_ = -1;  // rules
};

}  // namespace krait::formats
