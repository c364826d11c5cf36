// What stands behind ChatContext, for the files that render.
#pragma once

#include "krait/formats/chat_template.h"
#include "krait/formats/chat_template_value.h"

namespace krait::formats {

struct ChatContext::Variables {
  jinja::Dict dict;
};

}  // namespace krait::formats
