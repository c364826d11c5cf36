#include "krait/core/check.h"

namespace krait {
inline namespace core {

void check_failed(const char* expression, const std::string& detail, std::source_location where) {
  throw InternalError(
      fmt::format("internal error: {} failed: {} ({}:{})", expression, detail, where.file_name(), where.line()));
}

}  // namespace core
}  // namespace krait
