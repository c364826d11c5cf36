// The heads of requests and answers as text: what of a request's head is taken over, and how an answer's is written.
#pragma once

#include <string>
#include <string_view>

#include "krait/server/http_message.h"

namespace krait::server {

// Whether an id that a client sent may stand in a header and in a line of a log as it is.
bool fit_for_id(std::string_view text);
// ASCII letters; names of headers are compared so.
std::string lower_case(std::string_view text);
// Path and query of a request's target, of which "http://host" is dropped. False for one that is no path.
bool set_target(std::string_view target, HttpRequest& request);

enum class BodyLength { known, chunked, until_close };
// Status line and headers, with the empty line that ends them.
std::string head_text(const HttpAnswer& answer, const std::string& id, BodyLength length, bool keep_alive);

}  // namespace krait::server
