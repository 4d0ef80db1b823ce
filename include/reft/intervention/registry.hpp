#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "reft/intervention/intervention.hpp"
#include "reft/intervention/loreft.hpp"

namespace reft {

/// Makes an intervention of width D from options in JSON.
using InterventionFactory =
    std::function<std::shared_ptr<InterventionBase>(int64_t hidden_size, const nlohmann::json& options)>;

/// @throws ConfigError for a dtype that parameters cannot have.
inline torch::Dtype parse_parameter_dtype(std::string_view name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "float64") return torch::kFloat64;
  fail<ConfigError>("parse_parameter_dtype", "\"{}\": expected float32 or float64", name);
}

/// Reads the options of the low-rank forms; keys that are absent keep their defaults.
/// @throws ConfigError for an unknown key or a value of the wrong type.
inline LowRankOptions parse_low_rank_options(const nlohmann::json& json) {
  LowRankOptions options;
  for (const auto& [key, value] : json.items()) {
    try {
      if (key == "rank") value.get_to(options.rank);
      else if (key == "dropout") value.get_to(options.dropout);
      else if (key == "dropout_on") options.dropout_on = parse_dropout_on(value.get<std::string>());
      else if (key == "activation") value.get_to(options.activation);
      else if (key == "projection_bias") value.get_to(options.projection_bias);
      else if (key == "identity_start") value.get_to(options.identity_start);
      else if (key == "dtype") options.dtype = parse_parameter_dtype(value.get<std::string>());
      else fail<ConfigError>("parse_low_rank_options", "unknown option \"{}\"", key);
    } catch (const nlohmann::json::exception&) {
      fail<ConfigError>("parse_low_rank_options", "option \"{}\": unexpected value {}", key, value.dump());
    }
  }
  return options;
}

namespace detail {

template <class T>
InterventionFactory low_rank_factory() {
  return [](int64_t hidden_size, const nlohmann::json& options) {
    return std::make_shared<T>(hidden_size, parse_low_rank_options(options));
  };
}

inline std::map<std::string, InterventionFactory, std::less<>>& intervention_registry() {
  static std::map<std::string, InterventionFactory, std::less<>> registry{
      {"loreft", low_rank_factory<LoReFT>()},     {"consreft", low_rank_factory<ConsReFT>()},
      {"lobireft", low_rank_factory<LobiReFT>()}, {"noreft", low_rank_factory<NoReFT>()},
      {"direft", low_rank_factory<DiReFT>()},     {"nodireft", low_rank_factory<DiReFT>()},
      {"ortho_direft", low_rank_factory<OrthoDiReFT>()},
  };
  return registry;
}

}  // namespace detail

/// Adds a user's intervention under its `kTypeName`, for checkpoints and the command line. `parse` turns JSON into
/// `T::Options`. Call it before other threads use the registry.
template <class T>
void register_intervention(std::function<typename T::Options(const nlohmann::json&)> parse) {
  require_intervention<T>();
  detail::intervention_registry()[std::string(T::kTypeName)] = [parse](int64_t hidden_size, const nlohmann::json& options) {
    return std::make_shared<T>(hidden_size, parse(options));
  };
}

/// The intervention with a name ("loreft", "direft", …); "nodireft" is pyreft's name of "direft".
/// @throws ConfigError for an unknown name, listing the known ones, or for options the form does not have.
inline std::shared_ptr<InterventionBase> make_intervention(std::string_view name, int64_t hidden_size,
                                                           const nlohmann::json& options = nlohmann::json::object()) {
  const auto& registry = detail::intervention_registry();
  if (const auto found = registry.find(name); found != registry.end()) return found->second(hidden_size, options);
  std::string known;
  for (const auto& [candidate, factory] : registry) known += (known.empty() ? "" : ", ") + candidate;
  fail<ConfigError>("make_intervention", "\"{}\": expected one of {}", name, known);
}

}  // namespace reft
