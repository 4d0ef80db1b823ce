#pragma once

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace reft::test {

/// Reasons of skipped tests and how often each was given; printed at the end of the run.
inline std::map<std::string, int>& skips() {
  static std::map<std::string, int> reasons;
  return reasons;
}

inline void skip(const std::string& reason) { ++skips()[reason]; }

/// A file or folder of the shared test data, or nothing (and a counted skip) where it is absent.
inline std::optional<std::filesystem::path> shared_path(const std::string& relative) {
  const char* root = std::getenv("REFT_SHARED_DIR");
  const auto path = std::filesystem::path(root != nullptr ? root : "../shared") / relative;
  if (std::filesystem::exists(path)) return path;
  skip("no shared test data: set REFT_SHARED_DIR");
  return std::nullopt;
}

}  // namespace reft::test
