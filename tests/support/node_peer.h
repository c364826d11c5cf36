// Programs of node that tests compare krait with: a folder with package.json and package-lock.json, installed by npm
// once for a build tree.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace krait::tests {

// Held while the peer is installed: ctest may run several of these tests at once.
class PeerLock {
 public:
  explicit PeerLock(const std::filesystem::path& path) : file_(open(path.c_str(), O_CREAT | O_RDWR, 0644)) {
    flock(file_, LOCK_EX);
  }
  ~PeerLock() { close(file_); }
  PeerLock(const PeerLock&) = delete;
  PeerLock& operator=(const PeerLock&) = delete;

 private:
  int file_;
};

inline std::string whole_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Where the peer is installed: a copy of `folder` (of the source tree) in the build folder.
inline std::filesystem::path installed_node_peer(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  const fs::path source = fs::path(KRAIT_SOURCE_DIR) / folder;
  const fs::path build = KRAIT_PEER_BUILD_DIR;
  fs::create_directories(build);
  const PeerLock lock(build / "lock");
  for (const auto& entry : fs::directory_iterator(source)) {
    if (!entry.is_regular_file()) continue;
    fs::copy_file(entry.path(), build / entry.path().filename(), fs::copy_options::overwrite_existing);
  }
  // What was installed, so that a build folder follows when the list of packages changes.
  const fs::path installed = build / "node_modules" / "installed-package-lock.json";
  if (whole_file(installed) != whole_file(source / "package-lock.json")) {
    if (std::system("npm --version >/dev/null 2>&1") != 0) {
      throw std::runtime_error("npm is not installed (packages nodejs and npm)");
    }
    const std::string command = fmt::format("cd '{}' && npm ci --no-audit --no-fund >npm.log 2>&1", build.string());
    if (std::system(command.c_str()) != 0)
      throw std::runtime_error(fmt::format("npm ci failed: see {}", (build / "npm.log").string()));
    fs::copy_file(source / "package-lock.json", installed, fs::copy_options::overwrite_existing);
  }
  return build;
}

}  // namespace krait::tests
