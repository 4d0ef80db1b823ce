#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "reft/io/hub_cache.hpp"

namespace reft::program {

/// The Hugging Face cache, where the environment says it is.
inline std::filesystem::path hub_cache() {
  const auto from = [](const char* name, const char* below) -> std::filesystem::path {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? std::filesystem::path() : std::filesystem::path(value) / below;
  };
  for (const auto& path : {from("HF_HUB_CACHE", ""), from("HF_HOME", "hub"), from("XDG_CACHE_HOME", "huggingface/hub"),
                           from("HOME", ".cache/huggingface/hub")}) {
    if (!path.empty()) return path;
  }
  return ".cache/huggingface/hub";
}

/// --model: a path, or the id of a model in the local cache.   @throws CheckpointError as reft::find_model.
inline std::string model_path(const std::string& name) { return find_model(name, hub_cache()).string(); }

}  // namespace reft::program
