#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "reft/error.hpp"

namespace reft {

/// How rotary frequencies are stretched beyond the trained context.
struct RopeScaling {
  enum class Kind { none, linear, dynamic, llama3 };
  Kind kind = Kind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_position_embeddings = 0;          // llama3
};

/// The shape of a decoder and the switches by which families differ, in the names of Hugging Face's config.json.
struct TransformerConfig {
  std::string architecture = "LlamaForCausalLM";
  std::string model_type = "llama";
  int64_t hidden_size = 0;          // D
  int64_t intermediate_size = 0;    // F
  int64_t num_hidden_layers = 0;    // L
  int64_t num_attention_heads = 0;  // H
  int64_t num_key_value_heads = 0;  // K
  int64_t head_dim = 0;             // E
  int64_t vocab_size = 0;           // V
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  RopeScaling rope_scaling;
  std::string hidden_act = "silu";
  bool attention_bias = false;
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  std::optional<int64_t> bos_token_id;
  std::vector<int64_t> eos_token_ids;
  std::string dtype = "float32";  // of the stored weights

  int64_t query_width() const { return num_attention_heads * head_dim; }      // H·E
  int64_t key_value_width() const { return num_key_value_heads * head_dim; }  // K·E
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
  if (config.head_dim % 2 != 0) {
    fail<ConfigError>("TransformerConfig", "head_dim: rotary embeddings need an even number, got {}", config.head_dim);
  }
}

}  // namespace reft
