// Schemas for the tests of constraints: every keyword that krait takes, alone and together, and schemas of the kind
// that people send (functions to call, records to extract, trees).
#pragma once

#include <string>
#include <vector>

namespace krait::tests {

inline const std::vector<std::string>& json_schema_samples() {
  static const std::vector<std::string> samples = {
      // A function to call, as in OpenAI's documentation of tools.
      R"({"type": "object", "properties": {"location": {"type": "string", "description": "City and country"},
          "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, "required": ["location"],
          "additionalProperties": false})",
      // Steps of a solution.
      R"({"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "object", "properties":
          {"explanation": {"type": "string"}, "output": {"type": "string"}}, "required": ["explanation", "output"],
          "additionalProperties": false}}, "final_answer": {"type": "string"}}, "required": ["steps", "final_answer"],
          "additionalProperties": false, "strict": true})",
      // A tree of user interface elements that refers to itself as a whole.
      R"({"type": "object", "properties": {"type": {"enum": ["div", "button", "field"]}, "label": {"type": "string"},
          "children": {"type": "array", "items": {"$ref": "#"}}, "attributes": {"type": "array", "items": {"$ref":
          "#/$defs/attribute"}}}, "required": ["type", "label", "children", "attributes"], "additionalProperties": false,
          "$defs": {"attribute": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type":
          "string"}}, "required": ["name", "value"], "additionalProperties": false}}})",
      // A linked list.
      R"({"type": "object", "properties": {"list": {"$ref": "#/$defs/node"}}, "required": ["list"], "$defs": {"node":
          {"type": "object", "properties": {"value": {"type": "number"}, "next": {"anyOf": [{"$ref": "#/$defs/node"},
          {"type": "null"}]}}, "required": ["value", "next"], "additionalProperties": false}}})",
      // What pydantic makes of a class with optional fields, an enumeration and a dictionary.
      R"({"$defs": {"Color": {"enum": ["red", "green"], "title": "Color", "type": "string"}, "Item": {"properties":
          {"name": {"title": "Name", "type": "string", "maxLength": 12}, "price": {"exclusiveMinimum": 0, "type":
          "number"}}, "required": ["name", "price"], "title": "Item", "type": "object"}}, "properties": {"color": {"$ref":
          "#/$defs/Color"}, "items": {"items": {"$ref": "#/$defs/Item"}, "minItems": 1, "maxItems": 3, "type": "array"},
          "stock": {"additionalProperties": {"type": "integer"}, "type": "object"}, "note": {"anyOf": [{"type":
          "string"}, {"type": "null"}], "default": null}}, "required": ["color", "items"], "type": "object"})",
      R"({"type": "integer"})", R"({"type": "number"})", R"({"type": "integer", "minimum": 7, "maximum": 1234})",
      R"({"type": "integer", "minimum": -42, "exclusiveMaximum": 5})", R"({"type": "integer", "exclusiveMinimum": 99})",
      R"({"type": "integer", "maximum": -10})", R"({"type": "integer", "minimum": 0.5, "maximum": 2.5})",
      R"({"type": "number", "minimum": 0, "maximum": 1})",
      R"({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})",
      R"({"type": "number", "minimum": -1.25, "maximum": 12.375})",
      R"({"type": "number", "minimum": 3.14, "maximum": 3.15})", R"({"type": "number", "exclusiveMaximum": -0.001})",
      R"({"type": "number", "minimum": 1e3})", R"({"type": "string", "minLength": 2, "maxLength": 5})",
      R"({"type": "string", "minLength": 3})", R"({"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"})",
      R"({"type": "string", "pattern": "b+c"})", R"({"type": "string", "pattern": "^a|z$"})",
      R"({"type": "string", "pattern": "^\\S+\\s\\S+$"})", R"({"type": "string", "pattern": "^.[^a]$"})",
      R"({"type": "string", "format": "date"})", R"({"type": "string", "format": "date-time"})",
      R"({"type": "string", "format": "time"})", R"({"type": "string", "format": "uuid"})",
      R"({"type": "string", "format": "email"})", R"({"type": "string", "format": "hostname"})",
      R"({"type": "string", "format": "ipv4"})",
      R"({"enum": ["a", 1, 2.5, null, true, {"x": [1, "\n\"\\\u0001é"]}, [], {}]})",
      R"({"const": {"deep": {"er": ["x", {}]}}})", R"({"type": ["string", "null", "integer"], "maxLength": 3})",
      R"({"type": ["integer", "null"], "enum": ["no", 5, null]})",
      R"({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4})",
      R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"},
          "maxItems": 5})",
      R"({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}, {"const": 3}], "minItems": 2})",
      R"({"type": "array", "prefixItems": [{"type": "integer"}, {"const": 3}], "items": false})",
      R"({"type": "array", "maxItems": 0})", R"({"type": "array"})", R"({"type": "object"})",
      R"({"type": "object", "additionalProperties": false})",
      R"({"type": "object", "maxProperties": 2, "minProperties": 1})",
      R"({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": {"type": "integer"}})",
      R"({"type": "object", "properties": {"ab": {"type": "integer"}, "ac": {"const": 1}, "é": {"const": 2}},
          "additionalProperties": {"type": "string"}})",
      R"({"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}, "d": {"const": 4}},
          "required": ["b", "d"]})",
      R"({"type": "object", "properties": {"a": {"const": 1}, "b": false}, "required": ["a", "z"]})",
      R"({"type": "object", "properties": {"a": {}, "b": true}})",
      R"({"required": ["name"], "properties": {"name": {"minLength": 1}}})",
      R"({"oneOf": [{"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer", "maximum":
          9, "minimum": 0}}, "required": ["kind", "lives"]}, {"type": "object", "properties": {"kind": {"const": "dog"},
          "tricks": {"type": "array", "items": {"type": "string"}}}, "required": ["kind", "tricks"]}]})",
      R"({"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"], "anyOf": [{"properties":
          {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"id": {"minimum": 5}}}]})",
      R"({"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"extra": {"type": "boolean"}}, "required": ["extra"]}],
          "$defs": {"base": {"type": "object", "properties": {"id": {"type": "integer", "minimum": 1}}, "required":
          ["id"]}}})",
      R"({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}, {"type": ["number", "string"]}]})",
      R"({"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}]})",
      // Arithmetic: two rules that call each other, and branches that begin alike.
      R"({"$ref": "#/$defs/sum", "$defs": {"sum": {"anyOf": [{"type": "integer"}, {"type": "object", "properties":
          {"left": {"$ref": "#/$defs/sum"}, "right": {"$ref": "#/$defs/product"}}, "required": ["left", "right"]}]},
          "product": {"anyOf": [{"type": "object", "properties": {"left": {"$ref": "#/$defs/sum"}, "by": {"type":
          "integer"}}, "required": ["left", "by"]}, {"$ref": "#/$defs/sum"}]}}})",
      "true", "{}"};
  return samples;
}

}  // namespace krait::tests
