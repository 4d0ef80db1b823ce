#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reft/error.hpp"
#include "reft/model/weight_names.hpp"

namespace reft {

/// How rotary frequencies are stretched beyond the trained context.
struct RopeScaling {
  enum class Kind { none, linear, dynamic, llama3, yarn, longrope };
  Kind kind = Kind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_position_embeddings = 0;          // llama3, yarn, longrope
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn
  double attention_factor = 1.0;                         // yarn, longrope: multiplies cosines and sines
  std::vector<double> short_factor, long_factor;         // longrope, (rotary_dim/2)
};

/// What may differ from layer to layer.
struct LayerSwitches {
  enum class Rotary { none, global, local };
  int64_t window = 0;  ///< keys a query sees, itself included; 0: all before it
  Rotary rotary = Rotary::global;
};

enum class NormKind {
  rms,         ///< x / rms(x) · w
  rms_offset,  ///< x / rms(x) · (1 + w)
  layer,       ///< (x − mean) / deviation · w + b
};

/// Where the two norms of a block stand; f is attention or feed-forward.
enum class NormPlacement {
  input,             ///< h + f(norm(h))
  input_and_output,  ///< h + norm(f(norm(h)))
  output,            ///< h + norm(f(h))
  sum,               ///< norm(h + f(h))
};

/// The shape of a transformer and the switches by which families differ, as far as they can in the names of Hugging
/// Face's config.json. The defaults are a Llama.
struct TransformerConfig {
  std::string architecture = "LlamaForCausalLM";
  std::string model_type = "llama";
  WeightNames weights;

  int64_t hidden_size = 0;          // D
  int64_t intermediate_size = 0;    // F
  int64_t num_hidden_layers = 0;    // L
  int64_t num_attention_heads = 0;  // H
  int64_t num_key_value_heads = 0;  // K
  int64_t head_dim = 0;             // E
  int64_t vocab_size = 0;           // V
  int64_t max_position_embeddings = 2048;

  // EMBEDDING AND HEAD
  double embedding_scale = 1.0;
  bool learned_positions = false;   // a table of positions instead of rotations
  int64_t position_offset = 0;      // of the first token in that table
  int64_t type_vocab_size = 0;      // segments of an encoder; 0: none
  bool embedding_norm = false;
  bool final_norm = true;
  bool tie_word_embeddings = false;
  double final_logit_softcapping = 0.0;  // c·tanh(logit/c); 0: none

  // NORMS
  NormKind norm = NormKind::rms;
  double norm_eps = 1e-6;
  NormPlacement norm_placement = NormPlacement::input;
  bool parallel_residual = false;   // h + attention(norm(h)) + mlp(norm(h))

  // ATTENTION
  bool causal = true;
  bool attention_bias = false;         // of queries, keys, values
  bool attention_output_bias = false;
  int64_t query_key_norm = 0;          // values normed together: E, or all of a token's heads (kWholeRow); 0: none
  static constexpr int64_t kWholeRow = -1;
  double attention_scale = 0.0;        // of q·k; 0: 1/√E
  double attn_logit_softcapping = 0.0;
  double rope_theta = 10000.0, rope_local_theta = 10000.0;
  RopeScaling rope_scaling;            // of the global rotation
  double partial_rotary_factor = 1.0;  // the part of a head that is rotated
  std::vector<LayerSwitches> layers;   // (L), or empty: all alike

  // FEED-FORWARD
  std::string hidden_act = "silu";
  bool gated_mlp = true;
  bool mlp_bias = false;
  int64_t num_experts = 0;             // 0: one feed-forward for all tokens
  int64_t num_experts_per_token = 0;

  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  int64_t num_labels = 0;              // of a classification head
  std::string classifier_act = "tanh"; // behind its transform, where it has one
  std::string dtype = "float32";       // of the stored weights

  int64_t query_width() const { return num_attention_heads * head_dim; }      // H·E
  int64_t key_value_width() const { return num_key_value_heads * head_dim; }  // K·E
  int64_t merged_width() const { return query_width() + 2 * key_value_width(); }
  LayerSwitches layer(int64_t index) const { return layers.empty() ? LayerSwitches{} : layers[index]; }
  bool has_rotary() const { return !learned_positions; }

  /// Values of a head that are rotated, an even number.
  int64_t rotary_dim() const { return static_cast<int64_t>(static_cast<double>(head_dim) * partial_rotary_factor); }
  double score_scale() const {
    return attention_scale > 0.0 ? attention_scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
  }
};

/// @throws ConfigError naming the first value that no transformer can have.
inline void validate(const TransformerConfig& config) {
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1 || value > (int64_t{1} << 31)) {
      fail<ConfigError>("TransformerConfig", "{}: expected a positive number, got {}", name, value);
    }
  };
  positive("hidden_size", config.hidden_size);
  positive("intermediate_size", config.intermediate_size);
  positive("num_hidden_layers", config.num_hidden_layers);
  positive("num_attention_heads", config.num_attention_heads);
  positive("num_key_value_heads", config.num_key_value_heads);
  positive("head_dim", config.head_dim);
  positive("vocab_size", config.vocab_size);
  positive("max_position_embeddings", config.max_position_embeddings);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fail<ConfigError>("TransformerConfig", "expected num_attention_heads to be a multiple of num_key_value_heads, got {} and {}",
                      config.num_attention_heads, config.num_key_value_heads);
  }
  if (config.has_rotary() && (config.rotary_dim() < 2 || config.rotary_dim() > config.head_dim || config.rotary_dim() % 2 != 0)) {
    fail<ConfigError>("TransformerConfig", "head_dim: rotary embeddings need an even number, got {}", config.rotary_dim());
  }
  if (!config.layers.empty() && static_cast<int64_t>(config.layers.size()) != config.num_hidden_layers) {
    fail<ConfigError>("TransformerConfig", "expected switches for {} layers, got {}", config.num_hidden_layers, config.layers.size());
  }
  if (config.num_experts != 0) {
    positive("num_experts", config.num_experts);
    if (config.num_experts_per_token < 1 || config.num_experts_per_token > config.num_experts) {
      fail<ConfigError>("TransformerConfig", "num_experts_per_token: expected 1 to {}, got {}", config.num_experts,
                        config.num_experts_per_token);
    }
  }
  const auto half = static_cast<size_t>(config.rotary_dim() / 2);
  for (const auto* factors : {&config.rope_scaling.short_factor, &config.rope_scaling.long_factor}) {
    if (config.rope_scaling.kind == RopeScaling::Kind::longrope && factors->size() != half) {
      fail<ConfigError>("TransformerConfig", "rope scaling longrope: expected {} factors, got {}", half, factors->size());
    }
  }
}

}  // namespace reft
