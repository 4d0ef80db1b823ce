#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "reft/intervention/ablation.hpp"
#include "reft/intervention/activation_addition.hpp"
#include "reft/intervention/distributed_interchange.hpp"
#include "reft/intervention/interchange.hpp"
#include "reft/intervention/intervention.hpp"
#include "reft/intervention/loreft.hpp"
#include "reft/intervention/red.hpp"
#include "reft/intervention/reft_r1.hpp"

namespace reft {

/// Makes an intervention of width D from options in JSON.
using InterventionFactory =
    std::function<std::shared_ptr<InterventionBase>(int64_t hidden_size, const nlohmann::json& options)>;

namespace detail {

template <class T>
InterventionFactory factory() {
  require_intervention<T>();
  return [](int64_t hidden_size, const nlohmann::json& options) {
    return std::make_shared<T>(hidden_size, T::parse_options(options));
  };
}

inline std::map<std::string, InterventionFactory, std::less<>>& intervention_registry() {
  static std::map<std::string, InterventionFactory, std::less<>> registry{
      {"loreft", factory<LoReFT>()},
      {"consreft", factory<ConsReFT>()},
      {"lobireft", factory<LobiReFT>()},
      {"noreft", factory<NoReFT>()},
      {"direft", factory<DiReFT>()},
      {"nodireft", factory<DiReFT>()},
      {"ortho_direft", factory<OrthoDiReFT>()},
      {"red", factory<RED>()},
      {"activation_addition", factory<ActivationAddition>()},
      {"zero_ablation", factory<ZeroAblation>()},
      {"mean_ablation", factory<MeanAblation>()},
      {"noise_ablation", factory<NoiseAblation>()},
      {"interchange", factory<Interchange>()},
      {"das", factory<DistributedInterchange>()},
      {"reft_r1", factory<ReFTr1>()},
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

/// The same with a state that was saved; no random number is drawn.
/// @throws as `make_intervention`, or as its `load_state`.
inline std::shared_ptr<InterventionBase> load_intervention(std::string_view name, int64_t hidden_size, const nlohmann::json& options,
                                                           const std::map<std::string, torch::Tensor>& state) {
  const NoRandomStart blank;
  const auto intervention = make_intervention(name, hidden_size, options);
  intervention->load_state(state);
  return intervention;
}

}  // namespace reft
