#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/model/config_keys.hpp"
#include "reft/model/json_key.hpp"
#include "reft/model/rope_scaling.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weight_names.hpp"

namespace reft {

/// One Hugging Face architecture: how its config.json becomes a TransformerConfig. What the block does and what the
/// weights are called follows from the config's switches.
struct Family {
  std::string_view architecture;  // "LlamaForCausalLM"
  std::string_view model_type;    // "llama", for a config without architectures
  void (*read)(const nlohmann::json& json, TransformerConfig& config);
  WeightNames weights;

  /// "LlamaFor…", "LlamaModel": the class of a model folder, whatever its head.
  constexpr bool matches(std::string_view name) const {
    const std::string_view stem = architecture.substr(0, architecture.find("ForCausalLM"));
    const std::string_view prefix = stem.substr(0, stem.find("ForMaskedLM")).substr(0, stem.find("LMHeadModel"));
    if (!name.starts_with(prefix)) return false;
    const std::string_view head = name.substr(prefix.size());
    for (const std::string_view known : {"Model", "ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification"}) {
      if (head == known) return true;
    }
    return false;
  }
};

namespace detail {

inline void read_llama(const nlohmann::json& json, TransformerConfig& config) { read_decoder(json, config); }

// A window in every layer, or none where sliding_window is null.
inline void read_mistral(const nlohmann::json& json, TransformerConfig& config) {
  read_decoder(json, config);
  if (json.contains("sliding_window") && !json["sliding_window"].is_null()) {
    read_windows(json, config, 0, [](int64_t) { return true; });
  }
}

inline void read_mixtral(const nlohmann::json& json, TransformerConfig& config) {
  config.rope_theta = 1e6;
  config.norm_eps = 1e-5;
  read_mistral(json, config);
  require_key(json, "num_local_experts", config.num_experts);
  require_key(json, "num_experts_per_tok", config.num_experts_per_token);
}

inline void read_qwen_windows(const nlohmann::json& json, TransformerConfig& config) {
  bool use_window = false;
  int64_t first = 28;
  read_key(json, "use_sliding_window", use_window);
  read_key(json, "max_window_layers", first);
  if (use_window) read_windows(json, config, 4096, [first](int64_t layer) { return layer >= first; });
}

// Biases on queries, keys and values, none on the output.
inline void read_qwen2(const nlohmann::json& json, TransformerConfig& config) {
  read_decoder(json, config);
  config.attention_bias = true;
  config.attention_output_bias = false;
  read_qwen_windows(json, config);
}

inline void read_qwen3(const nlohmann::json& json, TransformerConfig& config) {
  read_decoder(json, config);
  if (!json.contains("head_dim")) config.head_dim = 128;
  config.query_key_norm = config.head_dim;
  read_qwen_windows(json, config);
}

inline void read_gemma(const nlohmann::json& json, TransformerConfig& config) {
  config.norm = NormKind::rms_offset;
  config.tie_word_embeddings = true;
  read_decoder(json, config);
  if (!json.contains("head_dim")) config.head_dim = 256;
  config.hidden_act = "gelu_pytorch_tanh";  // whatever the oldest files say
  read_key(json, "hidden_activation", config.hidden_act);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
}

inline void read_gemma2(const nlohmann::json& json, TransformerConfig& config) {
  read_gemma(json, config);
  config.norm_placement = NormPlacement::input_and_output;
  double scalar = 256.0;
  read_key(json, "query_pre_attn_scalar", scalar);
  config.attention_scale = 1.0 / std::sqrt(scalar);
  config.attn_logit_softcapping = 50.0;
  config.final_logit_softcapping = 30.0;
  for (const auto& [key, cap] : {std::pair{"attn_logit_softcapping", &config.attn_logit_softcapping},
                                 std::pair{"final_logit_softcapping", &config.final_logit_softcapping}}) {
    if (json.contains(key) && json[key].is_null()) *cap = 0.0;
    read_key(json, key, *cap);
  }
  read_windows(json, config, 4096, [](int64_t layer) { return layer % 2 == 0; });
}

// Layers with a window rotate by a base of their own, unscaled.
inline void read_gemma3(const nlohmann::json& json, TransformerConfig& config) {
  config.rope_theta = 1e6;
  read_gemma(json, config);
  config.norm_placement = NormPlacement::input_and_output;
  config.query_key_norm = config.head_dim;
  double scalar = 256.0;
  int64_t pattern = 6;
  read_key(json, "query_pre_attn_scalar", scalar);
  config.attention_scale = 1.0 / std::sqrt(scalar);
  // attn_logit_softcapping is read by no one: transformers passes it to no attention of this family.
  read_key(json, "final_logit_softcapping", config.final_logit_softcapping);
  read_key(json, "sliding_window_pattern", pattern);
  read_key(json, "rope_local_base_freq", config.rope_local_theta);
  if (pattern < 1) fail<CheckpointError>("read_config", "config.json: sliding_window_pattern: expected 1 or more, got {}", pattern);
  read_windows(json, config, 4096, [pattern](int64_t layer) { return (layer + 1) % pattern != 0; });
  for (LayerSwitches& layer : config.layers) {
    if (layer.window > 0) layer.rotary = LayerSwitches::Rotary::local;
  }
}

inline void read_phi3(const nlohmann::json& json, TransformerConfig& config) {
  config.norm_eps = 1e-5;
  config.max_position_embeddings = 4096;
  read_mistral(json, config);
}

// Every fourth layer does not rotate; with use_sliding_window those are the ones with a window.
inline void read_smollm3(const nlohmann::json& json, TransformerConfig& config) {
  config.rope_theta = 2e6;
  config.tie_word_embeddings = true;
  read_decoder(json, config);
  std::vector<int> rotates;
  int64_t interval = 4;
  bool use_window = false;
  read_key(json, "no_rope_layers", rotates);
  read_key(json, "no_rope_layer_interval", interval);
  read_key(json, "use_sliding_window", use_window);
  if (interval < 1) fail<CheckpointError>("read_config", "config.json: no_rope_layer_interval: expected 1 or more, got {}", interval);
  config.layers.resize(checked_layers(config));
  if (!rotates.empty() && rotates.size() != config.layers.size()) {
    fail<CheckpointError>("read_config", "config.json: no_rope_layers: expected {} of them, got {}", config.layers.size(), rotates.size());
  }
  const auto is_plain = [&](int64_t i) { return rotates.empty() ? (i + 1) % interval == 0 : rotates[i] == 0; };
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    if (is_plain(i)) config.layers[i].rotary = LayerSwitches::Rotary::none;
  }
  if (use_window) read_windows(json, config, 0, is_plain);
}

inline void read_olmo2(const nlohmann::json& json, TransformerConfig& config) {
  config.norm_eps = 1e-5;
  read_decoder(json, config);
  config.norm_placement = NormPlacement::output;
  config.query_key_norm = TransformerConfig::kWholeRow;
}

inline void read_gpt2(const nlohmann::json& json, TransformerConfig& config) {
  read_plain_feed_forward(config);
  config.tie_word_embeddings = true;
  config.max_position_embeddings = 1024;
  config.hidden_act = "gelu_new";
  read_sizes(json, config, {"n_embd", "n_inner", "n_layer", "n_head", "n_positions", "activation_function"});
  config.learned_positions = true;
  read_key(json, "layer_norm_epsilon", config.norm_eps);
  bool scaled = true, by_layer = false;
  read_key(json, "scale_attn_weights", scaled);
  read_key(json, "scale_attn_by_inverse_layer_idx", by_layer);
  if (by_layer) fail<ConfigError>("read_config", "scale_attn_by_inverse_layer_idx is not supported");
  if (!scaled) config.attention_scale = 1.0;
}

inline void read_gpt_neox(const nlohmann::json& json, TransformerConfig& config) {
  read_plain_feed_forward(config);
  config.hidden_act = "gelu";
  read_sizes(json, config);
  config.partial_rotary_factor = 0.25;
  read_key(json, "rotary_pct", config.partial_rotary_factor);
  read_key(json, "rotary_emb_base", config.rope_theta);
  read_rope(json, config);
  read_key(json, "layer_norm_eps", config.norm_eps);
  read_key(json, "attention_bias", config.attention_bias);
  config.attention_output_bias = config.attention_bias;
  config.parallel_residual = true;
  read_key(json, "use_parallel_residual", config.parallel_residual);
}

inline void read_encoder(const nlohmann::json& json, TransformerConfig& config, const SizeKeys& keys = {}) {
  read_plain_feed_forward(config);
  config.hidden_act = "gelu";
  config.norm_eps = 1e-12;
  config.max_position_embeddings = 512;
  config.tie_word_embeddings = true;
  read_sizes(json, config, keys);
  config.learned_positions = config.embedding_norm = true;
  config.final_norm = config.causal = false;
  config.norm_placement = NormPlacement::sum;
  read_key(json, "layer_norm_eps", config.norm_eps);
  bool is_decoder = false;
  std::string positions = "absolute";
  read_key(json, "is_decoder", is_decoder);
  read_key(json, "position_embedding_type", positions);
  if (is_decoder) fail<ConfigError>("read_config", "is_decoder: an encoder is expected to be one");
  if (positions != "absolute") fail<ConfigError>("read_config", "position_embedding_type \"{}\": expected absolute", positions);
}

inline void read_bert(const nlohmann::json& json, TransformerConfig& config) {
  read_encoder(json, config);
  config.type_vocab_size = 2;
  read_key(json, "type_vocab_size", config.type_vocab_size);
}

// Positions begin behind the padding token's id.
inline void read_roberta(const nlohmann::json& json, TransformerConfig& config) {
  read_bert(json, config);
  int64_t pad_token_id = 1;
  read_key(json, "pad_token_id", pad_token_id);
  config.position_offset = pad_token_id + 1;
  config.max_position_embeddings -= config.position_offset;
}

inline void read_distilbert(const nlohmann::json& json, TransformerConfig& config) {
  read_encoder(json, config, {"dim", "hidden_dim", "n_layers", "n_heads", "max_position_embeddings", "activation"});
  config.classifier_act = "relu";
}

inline constexpr WeightNames kGemma2Names{.attention_output_norm = "post_attention_layernorm",
                                          .mlp_input_norm = "pre_feedforward_layernorm",
                                          .mlp_output_norm = "post_feedforward_layernorm"};

inline constexpr WeightNames kBertNames{
    .base = "bert.", .embedding = "embeddings.word_embeddings", .positions = "embeddings.position_embeddings",
    .token_types = "embeddings.token_type_embeddings", .embedding_norm = "embeddings.LayerNorm", .layers = "encoder.layer.",
    .query = "attention.self.query", .key = "attention.self.key", .value = "attention.self.value",
    .attention_output = "attention.output.dense", .up = "intermediate.dense", .down = "output.dense",
    .attention_output_norm = "attention.output.LayerNorm", .mlp_output_norm = "output.LayerNorm",
    .language_head = "cls.predictions.decoder", .masked_transform = "cls.predictions.transform.dense",
    .masked_norm = "cls.predictions.transform.LayerNorm", .masked_bias = "cls.predictions",
    .classifier_transform = "bert.pooler.dense", .classifier = "classifier"};

inline constexpr WeightNames kRobertaNames = [] {
  WeightNames names = kBertNames;
  names.base = "roberta.";
  names.language_head = "lm_head.decoder";
  names.masked_transform = "lm_head.dense";
  names.masked_norm = "lm_head.layer_norm";
  names.masked_bias = "lm_head";
  names.classifier_transform = "classifier.dense";
  names.classifier = "classifier.out_proj";
  return names;
}();

}  // namespace detail

/// Every architecture that can be loaded.
inline constexpr Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", detail::read_llama, {}},
    {"MistralForCausalLM", "mistral", detail::read_mistral, {}},
    {"MixtralForCausalLM", "mixtral", detail::read_mixtral,
     {.gate = "w1", .up = "w3", .down = "w2", .router = "block_sparse_moe.gate", .experts = "block_sparse_moe.experts"}},
    {"Qwen2ForCausalLM", "qwen2", detail::read_qwen2, {}},
    {"Qwen3ForCausalLM", "qwen3", detail::read_qwen3, {}},
    {"SeedOssForCausalLM", "seed_oss", detail::read_qwen2, {}},
    {"GemmaForCausalLM", "gemma", detail::read_gemma, {}},
    {"Gemma2ForCausalLM", "gemma2", detail::read_gemma2, detail::kGemma2Names},
    {"Gemma3ForCausalLM", "gemma3_text", detail::read_gemma3, detail::kGemma2Names},
    {"Phi3ForCausalLM", "phi3", detail::read_phi3, {.query_key_value = "self_attn.qkv_proj", .gate_up = "mlp.gate_up_proj"}},
    {"SmolLM3ForCausalLM", "smollm3", detail::read_smollm3, {}},
    {"Olmo2ForCausalLM", "olmo2", detail::read_olmo2,
     {.attention_output_norm = "post_attention_layernorm", .mlp_output_norm = "post_feedforward_layernorm"}},
    {"GPT2LMHeadModel", "gpt2", detail::read_gpt2,
     {.base = "transformer.", .embedding = "wte", .positions = "wpe", .layers = "h.", .final_norm = "ln_f", .query_key_value = "attn.c_attn",
      .attention_output = "attn.c_proj", .up = "mlp.c_fc", .down = "mlp.c_proj", .attention_input_norm = "ln_1", .mlp_input_norm = "ln_2",
      .transposed = true}},
    {"GPTNeoXForCausalLM", "gpt_neox", detail::read_gpt_neox,
     {.base = "gpt_neox.", .embedding = "embed_in", .final_norm = "final_layer_norm", .query_key_value = "attention.query_key_value",
      .attention_output = "attention.dense", .up = "mlp.dense_h_to_4h", .down = "mlp.dense_4h_to_h", .language_head = "embed_out",
      .by_head = true}},
    {"BertForMaskedLM", "bert", detail::read_bert, detail::kBertNames},
    {"RobertaForMaskedLM", "roberta", detail::read_roberta, detail::kRobertaNames},
    {"DistilBertForMaskedLM", "distilbert", detail::read_distilbert,
     {.base = "distilbert.", .embedding = "embeddings.word_embeddings", .positions = "embeddings.position_embeddings",
      .embedding_norm = "embeddings.LayerNorm", .layers = "transformer.layer.", .query = "attention.q_lin", .key = "attention.k_lin",
      .value = "attention.v_lin", .attention_output = "attention.out_lin", .up = "ffn.lin1", .down = "ffn.lin2",
      .attention_output_norm = "sa_layer_norm", .mlp_output_norm = "output_layer_norm", .language_head = "vocab_projector",
      .masked_transform = "vocab_transform", .masked_norm = "vocab_layer_norm", .masked_bias = "vocab_projector",
      .classifier_transform = "pre_classifier", .classifier = "classifier"}},
};

}  // namespace reft
