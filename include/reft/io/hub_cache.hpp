#pragma once

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft {

// Note [Hugging Face cache]
// A model "owner/name" lies in <cache>/models--owner--name: `refs/main` holds the commit that was downloaded last, and
// `snapshots/<commit>` the files (links to blobs beside them).

namespace detail {

/// "owner/name" or "name" of the characters the hub allows; no path that begins at a root, here or above.
inline bool is_model_id(std::string_view name) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '/'; };
  return !name.empty() && std::all_of(name.begin(), name.end(), allowed) && std::count(name.begin(), name.end(), '/') <= 1 &&
         std::isalnum(static_cast<unsigned char>(name.front())) && name.back() != '/' && name.find("..") == std::string_view::npos;
}

/// The files of a cached model: the commit in refs/main, else the only one there is.
inline std::optional<std::filesystem::path> find_snapshot(const std::filesystem::path& folder) {
  std::string commit;
  std::ifstream(folder / "refs" / "main") >> commit;
  if (!commit.empty() && commit.find('/') == std::string::npos && std::filesystem::is_directory(folder / "snapshots" / commit)) {
    return folder / "snapshots" / commit;
  }
  std::optional<std::filesystem::path> only;
  if (!std::filesystem::is_directory(folder / "snapshots")) return only;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "snapshots")) {
    if (only) return std::nullopt;
    only = entry.path();
  }
  return only;
}

}  // namespace detail

/// Where a model is that a user calls by a path, by the folder of a cached model or by an id ("Qwen/Qwen2.5-0.5B").
/// @param name   an existing path wins over an id.   @param cache  the hub's cache, "~/.cache/huggingface/hub".
/// @return the folder or file; a path that does not exist as it is.
/// @throws CheckpointError for an id that is not in the cache, with the command that brings it there.
inline std::filesystem::path find_model(const std::string& name, const std::filesystem::path& cache) {
  if (std::filesystem::exists(name)) return detail::find_snapshot(name).value_or(name);
  if (!detail::is_model_id(name)) return name;
  std::string folder = "models--" + name;
  if (const auto slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  if (const auto snapshot = detail::find_snapshot(cache / folder)) return *snapshot;
  fail<CheckpointError>("find_model", "{}: no such file or folder, and no such model in {}; to download it: hf download {}", name,
                        cache.string(), name);
}

}  // namespace reft
