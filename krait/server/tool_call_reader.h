// Finds the calls of functions in a reply while it is being written. What is no call stays text, every byte of it: a
// call is taken as one when it is complete, names a function of the request, and has an object for arguments. Where
// the reply follows a grammar of calls, it is known to be one, and its arguments are passed on as they come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "krait/core/random.h"
#include "krait/server/tool_form.h"

namespace krait::server {

// What has been found: text, or more of a call.
struct ReplyPart {
  std::string text = {};
  bool is_call = false;
  std::size_t call = 0;  // which one, from 0
  bool begins = false;   // with id and name
  std::string id = {};
  std::string name = {};
  std::string arguments = {};  // more of them
  bool ends = false;
};

class ToolCallReader {
 public:
  struct Options {
    bool constrained = false;  // the reply follows tool_call_grammar
    // The opening mark is a special token, which is never shown: a reply that begins with { or [ may be a call.
    bool hidden_marks = false;
    std::uint64_t id_seed = 0;
  };
  ToolCallReader(const ToolForm& form, ToolUse use, Options options);

  std::vector<ReplyPart> feed(std::string_view text);
  std::vector<ReplyPart> finish();  // the reply is over

 private:
  using Parts = std::vector<ReplyPart>;
  // Reading what may be a call or not.
  void look(Parts& parts, bool over);
  struct Taken {
    enum { kCalls, kMore, kNone } what = kNone;
    std::size_t bytes = 0;
    std::vector<ToolCall> calls = {};
  };
  Taken take(std::string_view text, bool over) const;
  Taken take_json(std::string_view text, bool over) const;
  Taken take_xml(std::string_view text, bool over) const;
  Taken closed(Taken taken, std::string_view text, bool over) const;  // with the closing mark, or waiting for it
  // Reading what follows the grammar.
  void follow_json(Parts& parts);
  void follow_xml(Parts& parts);
  void begin_call(Parts& parts, std::string name);
  void more(Parts& parts, std::string arguments, bool ends);

  void say(Parts& parts, std::string_view text);
  std::string new_id();

  const ToolForm& form_;
  const ToolUse use_;
  const Options options_;
  Random random_;
  std::string rest_;       // not told yet
  bool in_call_ = false;   // rest_ begins with what may be a call
  bool said_ = false;      // some text was told
  std::size_t calls_ = 0;  // begun
  bool open_ = false;      // constrained: the last call's arguments are being read
  int depth_ = 0;          // within them
  bool in_string_ = false;
  bool escaped_ = false;
  std::string name_;            // xml: of the open call
  bool has_parameter_ = false;  // xml: the object is not empty
};

// The arguments of a call in XML, {"key": value, …}: a value is a string where the function's schema says so, else JSON
// where it is some, else a string.
std::string xml_value(const ToolDefinition& tool, const std::string& key, std::string_view text);

}  // namespace krait::server
