#pragma once

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "reft/model/transformer_config.hpp"

namespace reft {

/// One Hugging Face architecture: how its config.json becomes a TransformerConfig. What the block does and what the
/// weights are called follows from the config's switches.
struct Family {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view model_type;    // "llama", for a config without architectures
  void (*read)(const nlohmann::json& json, TransformerConfig& config);
};

namespace detail {

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

template <class T>
void require_key(const nlohmann::json& json, const char* key, T& value) {
  if (!json.contains(key) || json[key].is_null()) fail<CheckpointError>("read_config", "config.json: {} is missing", key);
  read_key(json, key, value);
}

inline RopeScaling read_rope_scaling(const nlohmann::json& json) {
  RopeScaling scaling;
  std::string kind = "default";
  read_key(json, "type", kind);
  read_key(json, "rope_type", kind);
  if (kind == "default") return scaling;
  require_key(json, "factor", scaling.factor);
  if (kind == "linear") {
    scaling.kind = RopeScaling::Kind::linear;
  } else if (kind == "dynamic") {
    scaling.kind = RopeScaling::Kind::dynamic;
  } else if (kind == "llama3") {
    scaling.kind = RopeScaling::Kind::llama3;
    require_key(json, "low_freq_factor", scaling.low_freq_factor);
    require_key(json, "high_freq_factor", scaling.high_freq_factor);
    require_key(json, "original_max_position_embeddings", scaling.original_max_position_embeddings);
  } else {
    fail<ConfigError>("read_config", "rope scaling \"{}\": expected default, linear, dynamic or llama3", kind);
  }
  return scaling;
}

// Old files hold rope_theta and rope_scaling, new ones both inside rope_parameters.
inline void read_rope(const nlohmann::json& json, TransformerConfig& config) {
  read_key(json, "rope_theta", config.rope_theta);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json[key].is_null()) continue;
    if (!json[key].is_object()) fail<CheckpointError>("read_config", "config.json: {} is not an object", key);
    read_key(json[key], "rope_theta", config.rope_theta);
    config.rope_scaling = read_rope_scaling(json[key]);
  }
}

inline void read_token_ids(const nlohmann::json& json, TransformerConfig& config) {
  if (json.contains("bos_token_id") && json["bos_token_id"].is_number_integer()) config.bos_token_id = json["bos_token_id"];
  if (!json.contains("eos_token_id")) return;
  const auto& eos = json["eos_token_id"];
  if (eos.is_number_integer()) config.eos_token_ids = {eos.get<int64_t>()};
  if (eos.is_array()) read_key(json, "eos_token_id", config.eos_token_ids);
}

inline void read_llama(const nlohmann::json& json, TransformerConfig& config) {
  require_key(json, "hidden_size", config.hidden_size);
  require_key(json, "intermediate_size", config.intermediate_size);
  require_key(json, "num_hidden_layers", config.num_hidden_layers);
  require_key(json, "num_attention_heads", config.num_attention_heads);
  require_key(json, "vocab_size", config.vocab_size);
  config.num_key_value_heads = config.num_attention_heads;
  read_key(json, "num_key_value_heads", config.num_key_value_heads);
  if (config.num_attention_heads > 0) config.head_dim = config.hidden_size / config.num_attention_heads;
  read_key(json, "head_dim", config.head_dim);
  read_key(json, "max_position_embeddings", config.max_position_embeddings);
  read_key(json, "rms_norm_eps", config.rms_norm_eps);
  read_key(json, "hidden_act", config.hidden_act);
  read_key(json, "attention_bias", config.attention_bias);
  read_key(json, "mlp_bias", config.mlp_bias);
  read_key(json, "tie_word_embeddings", config.tie_word_embeddings);
  read_rope(json, config);
}

}  // namespace detail

/// Every architecture that can be loaded.
inline constexpr std::array<Family, 1> kFamilies{{
    {"LlamaForCausalLM", "llama", detail::read_llama},
}};

/// @throws ConfigError for an architecture that is not in the table; CheckpointError for missing or malformed keys.
inline TransformerConfig parse_config(const nlohmann::json& json) {
  if (!json.is_object()) fail<CheckpointError>("read_config", "config.json: expected an object");
  TransformerConfig config;
  std::vector<std::string> architectures;
  detail::read_key(json, "architectures", architectures);
  detail::read_key(json, "model_type", config.model_type);
  config.architecture = architectures.empty() ? "" : architectures.front();
  for (const Family& family : kFamilies) {
    const bool matches = config.architecture.empty() ? config.model_type == family.model_type
                                                     : config.architecture == family.architecture;
    if (!matches) continue;
    config.architecture = family.architecture;
    config.model_type = family.model_type;
    detail::read_key(json, "torch_dtype", config.dtype);
    detail::read_key(json, "dtype", config.dtype);
    detail::read_token_ids(json, config);
    family.read(json, config);
    validate(config);
    return config;
  }
  std::string known;
  for (const Family& family : kFamilies) known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  fail<ConfigError>("read_config", "architecture \"{}\" (model_type \"{}\"): expected one of {}", config.architecture,
                    config.model_type, known);
}

/// Reads `folder`/config.json.   @throws CheckpointError if it is missing or not JSON; else as `parse_config`.
inline TransformerConfig read_config(const std::filesystem::path& folder) {
  const auto path = folder / "config.json";
  std::ifstream file(path);
  if (!file) fail<CheckpointError>("read_config", "{}: no such file; expected a Hugging Face model folder", path.string());
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) fail<CheckpointError>("read_config", "{}: not valid JSON", path.string());
  return parse_config(json);
}

/// The config.json from which `parse_config` reads the same config back.
inline nlohmann::json to_json(const TransformerConfig& config) {
  nlohmann::json json{{"architectures", {config.architecture}},
                      {"model_type", config.model_type},
                      {"hidden_size", config.hidden_size},
                      {"intermediate_size", config.intermediate_size},
                      {"num_hidden_layers", config.num_hidden_layers},
                      {"num_attention_heads", config.num_attention_heads},
                      {"num_key_value_heads", config.num_key_value_heads},
                      {"head_dim", config.head_dim},
                      {"vocab_size", config.vocab_size},
                      {"max_position_embeddings", config.max_position_embeddings},
                      {"rms_norm_eps", config.rms_norm_eps},
                      {"rope_theta", config.rope_theta},
                      {"hidden_act", config.hidden_act},
                      {"attention_bias", config.attention_bias},
                      {"mlp_bias", config.mlp_bias},
                      {"tie_word_embeddings", config.tie_word_embeddings},
                      {"torch_dtype", config.dtype}};
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) json["eos_token_id"] = config.eos_token_ids.front();
  if (config.eos_token_ids.size() > 1) json["eos_token_id"] = config.eos_token_ids;
  const RopeScaling& scaling = config.rope_scaling;
  switch (scaling.kind) {
    case RopeScaling::Kind::none: break;
    case RopeScaling::Kind::linear: json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", scaling.factor}}; break;
    case RopeScaling::Kind::dynamic: json["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", scaling.factor}}; break;
    case RopeScaling::Kind::llama3:
      json["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", scaling.factor},
                              {"low_freq_factor", scaling.low_freq_factor},
                              {"high_freq_factor", scaling.high_freq_factor},
                              {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  }
  return json;
}

}  // namespace reft
