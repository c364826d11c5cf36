// A context-free grammar over bytes: what a text may look like. Built by the parsers of regular expressions
// (grammar_regex.h) and of JSON schemas (json_schema.h), matched by runtime/constraint.h. Not a parser of any notation.
//
// An expression is a number; expressions are built from others and never change, so one may stand in many places.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace krait::formats {

struct CodePointRange {
  char32_t first;
  char32_t last;
};
using CodePoints = std::vector<CodePointRange>;

inline constexpr char32_t kLastCodePoint = 0x10FFFF;

// Sorted and merged, without surrogates, which UTF-8 has no bytes for.
CodePoints normalized(CodePoints ranges);
CodePoints complement(const CodePoints& ranges);  // all other code points, normalized

// How characters become bytes: as UTF-8, or as they stand within a JSON string, where quotes, backslashes and control
// characters are escaped. Every character has one spelling there (control characters may have hex digits of either
// case), so that one text cannot be written in two ways.
enum class Spelling { kPlain, kJsonString };

class Grammar {
 public:
  using Expression = std::int32_t;
  static constexpr std::int32_t kUnlimited = -1;
  // More than any sensible schema takes: what is built past it is dropped and too_large() says so.
  static constexpr std::size_t kMaximumExpressions = std::size_t{1} << 19;

  struct Node {
    enum Kind : std::uint8_t { kLiteral, kBytes, kSequence, kChoice, kRepeat, kCall } kind = kSequence;
    std::uint8_t low = 0, high = 0;      // kBytes
    std::int32_t least = 0, most = 0;    // kRepeat
    std::int32_t rule = -1;              // kCall
    std::string text;                    // kLiteral
    std::vector<Expression> parts = {};  // kSequence, kChoice, kRepeat
  };
  // A rule calls others, and itself; the grammar's texts are those of rule 0.
  struct Rule {
    std::string name;       // for messages
    Expression body = -1;   // -1 until it is set
    bool is_level = false;  // counts as a level of nesting
  };

  Expression empty() { return sequence({}); }
  Expression nothing() { return choice({}); }  // matches no text, not even the empty one
  Expression literal(std::string_view bytes);
  Expression bytes(std::uint8_t low, std::uint8_t high);  // one byte
  Expression sequence(std::vector<Expression> parts);
  Expression choice(std::vector<Expression> parts);
  Expression repeat(Expression part, std::int32_t least, std::int32_t most);  // most may be kUnlimited
  Expression optional(Expression part) { return repeat(part, 0, 1); }
  Expression call(std::int32_t rule);
  // One character of the set.
  Expression characters(const CodePoints& set, Spelling spelling);
  // A text, spelled character by character. Bytes that are no UTF-8 stay as they are.
  Expression text(std::string_view text, Spelling spelling);

  // All texts of another grammar, as one expression: its expressions and rules become some of this one.
  Expression embed(const Grammar& other);

  std::int32_t add_rule(std::string name, bool is_level);
  void set_body(std::int32_t rule, Expression body) { rules_[static_cast<std::size_t>(rule)].body = body; }

  const Node& node(Expression expression) const { return nodes_[static_cast<std::size_t>(expression)]; }
  std::span<const Rule> rules() const { return rules_; }
  bool too_large() const { return too_large_; }

 private:
  Expression add(Node node);

  std::vector<Node> nodes_;
  std::vector<Rule> rules_;
  std::map<std::pair<std::uint8_t, std::uint8_t>, Expression> byte_ranges_;  // equal ones are one expression
  bool too_large_ = false;
};

// Exactly one of these texts.
Grammar grammar_of_choices(std::span<const std::string> texts);

}  // namespace krait::formats
