// A schema with what it refers to within itself, and schemas combined into one. Unfolding is bounded, whatever refers
// to whatever.
#pragma once

#include <string>

#include "krait/formats/json_schema_keywords.h"

namespace krait::formats {

class SchemaDocument {
 public:
  // `root` outlives the document.
  explicit SchemaDocument(const SchemaJson& root) : root_(root) {}

  const SchemaJson& root() const { return root_; }
  // Counts a schema that is looked at, at its depth: an error once there are too many.
  Result<void> visit(const std::string& path, int depth);
  // What a "$ref" at `path` stands for.
  Result<const SchemaJson*> resolve(const std::string& reference, const std::string& path) const;
  // A schema that takes what both take, or what comes near it from below.
  Result<SchemaJson> merge(SchemaJson a, SchemaJson b, const std::string& path, int depth);

 private:
  const SchemaJson& root_;
  int visits_ = 0;
};

}  // namespace krait::formats
