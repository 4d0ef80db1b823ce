#pragma once

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/model/transformer_config.hpp"

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

/// L, small enough to hold a list of them.
inline size_t checked_layers(const TransformerConfig& config) {
  if (config.num_hidden_layers < 1 || config.num_hidden_layers > (1 << 16)) {
    fail<ConfigError>("TransformerConfig", "num_hidden_layers: expected 1 to {}, got {}", 1 << 16, config.num_hidden_layers);
  }
  return static_cast<size_t>(config.num_hidden_layers);
}

/// Integer weights are refused: nothing here computes with them.
inline void refuse_quantized(const nlohmann::json& json) {
  if (!json.contains("quantization_config") || json["quantization_config"].is_null()) return;
  const auto& quantization = json["quantization_config"];
  std::string method = "an unknown method";
  if (quantization.is_object()) read_key(quantization, "quant_method", method);
  fail<ConfigError>("read_config",
                    "the weights are quantized ({}); expected weights of a float dtype, because interventions need gradients through "
                    "every layer. Use the unquantized model this one was made from",
                    method);
}

inline void read_labels(const nlohmann::json& json, TransformerConfig& config) {
  config.num_labels = 2;
  read_key(json, "num_labels", config.num_labels);
  if (json.contains("id2label") && json["id2label"].is_object()) config.num_labels = std::ssize(json["id2label"]);
}

inline void read_token_ids(const nlohmann::json& json, TransformerConfig& config) {
  if (json.contains("bos_token_id") && json["bos_token_id"].is_number_integer()) config.bos_token_id = json["bos_token_id"];
  if (!json.contains("eos_token_id")) return;
  const auto& eos = json["eos_token_id"];
  if (eos.is_number_integer()) config.eos_token_ids = {eos.get<int64_t>()};
  if (eos.is_array()) read_key(json, "eos_token_id", config.eos_token_ids);
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

inline void read_plain_feed_forward(TransformerConfig& config) {
  config.norm = NormKind::layer;
  config.norm_eps = 1e-5;
  config.attention_bias = config.attention_output_bias = config.mlp_bias = true;
  config.gated_mlp = false;
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

/// @throws ConfigError for an architecture that is not in the table; CheckpointError for missing or malformed keys.
inline TransformerConfig parse_config(const nlohmann::json& json) {
  if (!json.is_object()) fail<CheckpointError>("read_config", "config.json: expected an object");
  TransformerConfig config;
  std::vector<std::string> architectures;
  detail::read_key(json, "architectures", architectures);
  detail::read_key(json, "model_type", config.model_type);
  config.architecture = architectures.empty() ? "" : architectures.front();
  for (const Family& family : kFamilies) {
    if (config.architecture.empty() ? config.model_type != family.model_type : !family.matches(config.architecture)) continue;
    detail::refuse_quantized(json);
    if (config.architecture.empty()) config.architecture = family.architecture;
    config.model_type = family.model_type;
    config.weights = family.weights;
    detail::read_key(json, "torch_dtype", config.dtype);
    detail::read_key(json, "dtype", config.dtype);
    detail::read_token_ids(json, config);
    detail::read_labels(json, config);
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

/// The config.json from which `parse_config` reads the same config back.
/// @throws ConfigError for a family other than Llama: only that one is ever made from nothing.
inline nlohmann::json to_json(const TransformerConfig& config) {
  if (config.model_type != "llama") fail<ConfigError>("to_json", "a {} cannot be written; expected a Llama", config.architecture);
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
                      {"rms_norm_eps", config.norm_eps},
                      {"rope_theta", config.rope_theta},
                      {"hidden_act", config.hidden_act},
                      {"attention_bias", config.attention_bias},
                      {"mlp_bias", config.mlp_bias},
                      {"tie_word_embeddings", config.tie_word_embeddings},
                      {"torch_dtype", config.dtype}};
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) json["eos_token_id"] = config.eos_token_ids.front();
  if (config.eos_token_ids.size() > 1) json["eos_token_id"] = config.eos_token_ids;
  if (const nlohmann::json scaling = to_json(config.rope_scaling); !scaling.is_null()) json["rope_scaling"] = scaling;
  return json;
}

}  // namespace reft
