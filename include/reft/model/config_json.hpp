#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reft/model/families.hpp"
#include "reft/model/json_key.hpp"
#include "reft/model/rope_scaling.hpp"
#include "reft/model/transformer_config.hpp"

namespace reft {

namespace detail {

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

}  // namespace detail

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
