// Where tests find reference data: outside numbers that stand beside the project (../shared) when it is checked out
// with them. Tests that need them skip with "skipped: no shared data" when they are not there.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>

namespace krait::tests {

// KRAIT_SHARED, else `shared` beside the source folder; nothing when there is none.
inline std::optional<std::filesystem::path> shared_data() {
  const char* given = std::getenv("KRAIT_SHARED");
  std::filesystem::path path =
      given != nullptr ? std::filesystem::path(given) : std::filesystem::path(KRAIT_SOURCE_DIR) / ".." / "shared";
  if (!std::filesystem::is_directory(path / "golden")) return std::nullopt;
  return path.lexically_normal();
}

}  // namespace krait::tests

#define KRAIT_REQUIRE_SHARED_DATA(variable)                     \
  const auto krait_shared = ::krait::tests::shared_data();      \
  if (!krait_shared) GTEST_SKIP() << "skipped: no shared data"; \
  const std::filesystem::path variable = *krait_shared
