#pragma once

#include <torch/types.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "reft/error.hpp"

namespace reft {

/// @throws ConfigError for a dtype that parameters cannot have.
inline torch::Dtype parse_parameter_dtype(std::string_view name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "float64") return torch::kFloat64;
  fail<ConfigError>("parse_parameter_dtype", "\"{}\": expected float32 or float64", name);
}

/// What `parse_parameter_dtype` reads back.
inline const char* parameter_dtype_name(torch::Dtype dtype) { return dtype == torch::kFloat64 ? "float64" : "float32"; }

/// @throws ConfigError unless parameters can have this dtype.
inline void check_parameter_dtype(std::string_view type, torch::Dtype dtype) {
  if (dtype == torch::kFloat32 || dtype == torch::kFloat64) return;
  fail<ConfigError>(type, "expected parameters in float32 or float64, got {}", c10::toString(dtype));
}

/// By key, what takes the value of an option from JSON.
using OptionReaders = std::map<std::string, std::function<void(const nlohmann::json& value)>, std::less<>>;

/// Reads the options of an intervention; keys that are absent keep their defaults.
/// @throws ConfigError for an unknown key or a value of the wrong type.
inline void read_options(std::string_view function, const nlohmann::json& json, const OptionReaders& readers) {
  for (const auto& [key, value] : json.items()) {
    const auto reader = readers.find(key);
    if (reader == readers.end()) fail<ConfigError>(function, "unknown option \"{}\"", key);
    try {
      reader->second(value);
    } catch (const nlohmann::json::exception&) {
      fail<ConfigError>(function, "option \"{}\": unexpected value {}", key, value.dump());
    }
  }
}

/// Reads an option into the field that holds it.
template <class T>
std::function<void(const nlohmann::json&)> into(T& field) {
  return [&field](const nlohmann::json& value) { value.get_to(field); };
}

inline std::function<void(const nlohmann::json&)> into(torch::Dtype& field) {
  return [&field](const nlohmann::json& value) { field = parse_parameter_dtype(value.get<std::string>()); };
}

}  // namespace reft
