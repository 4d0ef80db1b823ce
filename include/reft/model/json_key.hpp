#pragma once

#include <nlohmann/json.hpp>

#include "reft/error.hpp"

namespace reft::detail {

/// Puts a key of config.json into `value`, which keeps what it has where the key is missing or null.
/// @throws CheckpointError for a value of another type.
template <class T>
void read_key(const nlohmann::json& json, const char* key, T& value) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  try {
    found->get_to(value);
  } catch (const nlohmann::json::exception&) {
    fail<CheckpointError>("read_config", "config.json: {} = {} is not of the expected type", key, found->dump());
  }
}

/// As `read_key`.   @throws CheckpointError where the key is missing or null, too.
template <class T>
void require_key(const nlohmann::json& json, const char* key, T& value) {
  if (!json.contains(key) || json[key].is_null()) fail<CheckpointError>("read_config", "config.json: {} is missing", key);
  read_key(json, key, value);
}

}  // namespace reft::detail
