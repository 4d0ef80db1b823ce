#pragma once

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "reft/model/json_key.hpp"
#include "reft/model/transformer_config.hpp"

namespace reft {

namespace detail {

// Ref: Peng et al. 2023, arXiv:2309.00071: cosines and sines grow with the logarithm of the factor.
inline void read_yarn(const nlohmann::json& json, const TransformerConfig& config, RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::yarn;
  if (scaling.original_max_position_embeddings == 0) scaling.original_max_position_embeddings = config.max_position_embeddings;
  read_key(json, "beta_fast", scaling.beta_fast);
  read_key(json, "beta_slow", scaling.beta_slow);
  read_key(json, "truncate", scaling.truncate);
  double mscale = 0.0, mscale_all_dim = 0.0;
  read_key(json, "mscale", mscale);
  read_key(json, "mscale_all_dim", mscale_all_dim);
  const auto growth = [&](double slope) { return scaling.factor <= 1.0 ? 1.0 : 0.1 * slope * std::log(scaling.factor) + 1.0; };
  scaling.attention_factor = mscale != 0.0 && mscale_all_dim != 0.0 ? growth(mscale) / growth(mscale_all_dim) : growth(1.0);
  read_key(json, "attention_factor", scaling.attention_factor);
}

// Ref: Ding et al. 2024, arXiv:2402.13753.
inline void read_longrope(const nlohmann::json& json, const TransformerConfig& config, RopeScaling& scaling) {
  scaling.kind = RopeScaling::Kind::longrope;
  require_key(json, "short_factor", scaling.short_factor);
  require_key(json, "long_factor", scaling.long_factor);
  read_key(json, "factor", scaling.factor);
  const auto context = static_cast<double>(config.max_position_embeddings);
  if (scaling.original_max_position_embeddings == 0) scaling.original_max_position_embeddings = config.max_position_embeddings;
  else scaling.factor = context / static_cast<double>(scaling.original_max_position_embeddings);
  const double trained = std::log(static_cast<double>(scaling.original_max_position_embeddings));
  scaling.attention_factor = scaling.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(scaling.factor) / trained);
  read_key(json, "attention_factor", scaling.attention_factor);
}

inline RopeScaling read_rope_scaling(const nlohmann::json& json, const TransformerConfig& config) {
  using Kind = RopeScaling::Kind;
  RopeScaling scaling;
  std::string kind = "default";
  read_key(json, "type", kind);
  read_key(json, "rope_type", kind);
  if (kind == "default") return scaling;
  if (kind != "longrope" && kind != "su") require_key(json, "factor", scaling.factor);
  scaling.original_max_position_embeddings = config.rope_scaling.original_max_position_embeddings;
  read_key(json, "original_max_position_embeddings", scaling.original_max_position_embeddings);
  if (kind == "linear") {
    scaling.kind = Kind::linear;
  } else if (kind == "dynamic") {
    scaling.kind = Kind::dynamic;
  } else if (kind == "llama3") {
    scaling.kind = Kind::llama3;
    require_key(json, "low_freq_factor", scaling.low_freq_factor);
    require_key(json, "high_freq_factor", scaling.high_freq_factor);
    require_key(json, "original_max_position_embeddings", scaling.original_max_position_embeddings);
  } else if (kind == "yarn") {
    read_yarn(json, config, scaling);
  } else if (kind == "longrope" || kind == "su") {
    read_longrope(json, config, scaling);
  } else {
    fail<ConfigError>("read_config", "rope scaling \"{}\": expected default, linear, dynamic, llama3, yarn or longrope", kind);
  }
  return scaling;
}

// Old files hold rope_theta and rope_scaling, new ones both inside rope_parameters.
inline void read_rope(const nlohmann::json& json, TransformerConfig& config) {
  read_key(json, "rope_theta", config.rope_theta);
  read_key(json, "partial_rotary_factor", config.partial_rotary_factor);
  read_key(json, "original_max_position_embeddings", config.rope_scaling.original_max_position_embeddings);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json[key].is_null()) continue;
    const nlohmann::json* values = &json[key];
    // The newest files tell layers with a window apart.
    if (values->contains("sliding_attention")) read_key((*values)["sliding_attention"], "rope_theta", config.rope_local_theta);
    if (values->contains("full_attention")) values = &(*values)["full_attention"];
    if (!values->is_object()) fail<CheckpointError>("read_config", "config.json: {} is not an object", key);
    read_key(*values, "rope_theta", config.rope_theta);
    read_key(*values, "partial_rotary_factor", config.partial_rotary_factor);
    config.rope_scaling = read_rope_scaling(*values, config);
  }
}

}  // namespace detail

/// The rope_scaling of a config.json; null where nothing is scaled.
inline nlohmann::json to_json(const RopeScaling& scaling) {
  using Kind = RopeScaling::Kind;
  switch (scaling.kind) {
    case Kind::none: break;
    case Kind::linear: return {{"rope_type", "linear"}, {"factor", scaling.factor}};
    case Kind::dynamic: return {{"rope_type", "dynamic"}, {"factor", scaling.factor}};
    case Kind::llama3:
      return {{"rope_type", "llama3"},
              {"factor", scaling.factor},
              {"low_freq_factor", scaling.low_freq_factor},
              {"high_freq_factor", scaling.high_freq_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
    case Kind::yarn:
      return {{"rope_type", "yarn"},
              {"factor", scaling.factor},
              {"beta_fast", scaling.beta_fast},
              {"beta_slow", scaling.beta_slow},
              {"truncate", scaling.truncate},
              {"attention_factor", scaling.attention_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
    case Kind::longrope:
      return {{"rope_type", "longrope"},
              {"factor", scaling.factor},
              {"short_factor", scaling.short_factor},
              {"long_factor", scaling.long_factor},
              {"attention_factor", scaling.attention_factor},
              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  }
  return nullptr;
}

}  // namespace reft
