#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "reft/model/json_key.hpp"
#include "reft/model/rope_scaling.hpp"
#include "reft/model/transformer_config.hpp"

// What families share.

namespace reft::detail {

/// L, small enough to hold a list of them.
inline size_t checked_layers(const TransformerConfig& config) {
  if (config.num_hidden_layers < 1 || config.num_hidden_layers > (1 << 16)) {
    fail<ConfigError>("TransformerConfig", "num_hidden_layers: expected 1 to {}, got {}", 1 << 16, config.num_hidden_layers);
  }
  return static_cast<size_t>(config.num_hidden_layers);
}

/// What config.json calls the sizes.
struct SizeKeys {
  const char* hidden_size = "hidden_size";
  const char* intermediate_size = "intermediate_size";
  const char* num_hidden_layers = "num_hidden_layers";
  const char* num_attention_heads = "num_attention_heads";
  const char* max_position_embeddings = "max_position_embeddings";
  const char* hidden_act = "hidden_act";
};

inline void read_sizes(const nlohmann::json& json, TransformerConfig& config, const SizeKeys& keys = {}) {
  require_key(json, keys.hidden_size, config.hidden_size);
  config.intermediate_size = 4 * config.hidden_size;
  if (std::string_view(keys.intermediate_size) == "n_inner") read_key(json, keys.intermediate_size, config.intermediate_size);
  else require_key(json, keys.intermediate_size, config.intermediate_size);
  require_key(json, keys.num_hidden_layers, config.num_hidden_layers);
  require_key(json, keys.num_attention_heads, config.num_attention_heads);
  require_key(json, "vocab_size", config.vocab_size);
  config.num_key_value_heads = config.num_attention_heads;
  if (config.num_attention_heads > 0) config.head_dim = config.hidden_size / config.num_attention_heads;
  read_key(json, keys.max_position_embeddings, config.max_position_embeddings);
  read_key(json, keys.hidden_act, config.hidden_act);
  read_key(json, "tie_word_embeddings", config.tie_word_embeddings);
}

/// The keys most decoders share.
inline void read_decoder(const nlohmann::json& json, TransformerConfig& config) {
  read_sizes(json, config);
  read_key(json, "num_key_value_heads", config.num_key_value_heads);
  read_key(json, "head_dim", config.head_dim);
  read_key(json, "rms_norm_eps", config.norm_eps);
  read_key(json, "attention_bias", config.attention_bias);
  config.attention_output_bias = config.attention_bias;
  read_key(json, "mlp_bias", config.mlp_bias);
  read_rope(json, config);
}

inline void read_plain_feed_forward(TransformerConfig& config) {
  config.norm = NormKind::layer;
  config.norm_eps = 1e-5;
  config.attention_bias = config.attention_output_bias = config.mlp_bias = true;
  config.gated_mlp = false;
}

/// Gives layers a window: those `layer_types` names, else those for which `is_local` says so.
template <class IsLocal>
void read_windows(const nlohmann::json& json, TransformerConfig& config, int64_t window, IsLocal is_local) {
  std::vector<std::string> types;
  read_key(json, "layer_types", types);
  read_key(json, "sliding_window", window);
  if (!types.empty() && static_cast<int64_t>(types.size()) != config.num_hidden_layers) {
    fail<CheckpointError>("read_config", "config.json: layer_types: expected {} of them, got {}", config.num_hidden_layers, types.size());
  }
  if (config.layers.empty()) config.layers.resize(checked_layers(config));
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const bool local = types.empty() ? is_local(static_cast<int64_t>(i)) : types[i] == "sliding_attention";
    if (local) config.layers[i].window = window;
  }
}

}  // namespace reft::detail
