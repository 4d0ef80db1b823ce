#pragma once

#include <torch/cuda.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "reft/io/atomic_file.hpp"
#include "reft/io/llama2c.hpp"
#include "reft/io/safetensors.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/model/families.hpp"

namespace reft {

struct LoadOptions {
  std::optional<torch::Dtype> dtype;    ///< of the weights; absent: as stored, but float32 for float16 on a CPU
  torch::Device device = torch::kCPU;
};

/// The first CUDA device if there is one, else the CPU.
inline torch::Device best_device() { return torch::cuda::is_available() ? torch::Device(torch::kCUDA, 0) : torch::kCPU; }

/// @throws ConfigError for a dtype a base cannot have.
inline torch::Dtype parse_dtype(std::string_view name) {
  if (name == "float32") return torch::kFloat32;
  if (name == "bfloat16") return torch::kBFloat16;
  if (name == "float16") return torch::kFloat16;
  fail<ConfigError>("parse_dtype", "\"{}\": expected float32, bfloat16 or float16", name);
}

namespace detail {

/// The tensors of a model folder by name, from one file or from the shards an index names.
class WeightFiles {
 public:
  explicit WeightFiles(const std::filesystem::path& folder) {
    const auto index_path = folder / "model.safetensors.index.json", single = folder / "model.safetensors";
    if (std::filesystem::exists(single)) {
      files_.push_back(SafetensorsFile::open(single));
    } else if (std::filesystem::exists(index_path)) {
      for (const std::string& name : shard_names(index_path)) files_.push_back(SafetensorsFile::open(folder / name));
    } else {
      fail<CheckpointError>("load_causal_lm", "{}: expected model.safetensors or model.safetensors.index.json", folder.string());
    }
    for (const SafetensorsFile& file : files_) {
      for (const auto& [name, view] : file.tensors()) views_[name] = &view;
    }
  }

  const TensorView* find(const std::string& name) const {
    const auto found = views_.find(name);
    return found == views_.end() ? nullptr : found->second;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, view] : views_) names.push_back(name);
    return names;
  }

 private:
  static std::set<std::string> shard_names(const std::filesystem::path& index_path) {
    std::ifstream stream(index_path);
    const auto json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
      fail<CheckpointError>("load_causal_lm", "{}: expected an object with a weight_map", index_path.string());
    }
    std::set<std::string> names;
    for (const auto& [tensor, file] : json["weight_map"].items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      if (name.empty() || name.find('/') != std::string::npos) {
        fail<CheckpointError>("load_causal_lm", "{}: {}: expected a file name, got {}", index_path.string(), tensor, file.dump());
      }
      names.insert(name);
    }
    return names;
  }

  std::vector<SafetensorsFile> files_;
  std::map<std::string, const TensorView*> views_;
};

inline torch::Dtype load_dtype(const LoadOptions& options, torch::Dtype stored) {
  if (options.dtype) return *options.dtype;
  return stored == torch::kFloat16 && options.device.is_cpu() ? torch::kFloat32 : stored;
}

inline void check_stored_shape(const std::string& name, torch::IntArrayRef expected, torch::IntArrayRef stored) {
  if (stored != expected) {
    fail<CheckpointError>("load_causal_lm", "{}: expected shape {}, got {}", name, c10::str(expected), c10::str(stored));
  }
}

/// Copies one file tensor into its slot, converting dtype and device on the way.
inline void fill_slot(const WeightSlot& slot, const torch::Tensor& source) {
  check_stored_shape(slot.name, slot.shape, source.sizes());
  slot.view().copy_(source);
}

inline CausalLM load_hugging_face(const std::filesystem::path& folder, const LoadOptions& options) {
  const TransformerConfig config = read_config(folder);
  const WeightFiles files(folder);
  const auto require = [&](const std::string& name) -> const TensorView& {
    // A tied file may hold its one matrix under either name.
    const TensorView* view = files.find(name);
    if (view == nullptr && config.tie_word_embeddings && name == "model.embed_tokens.weight") view = files.find("lm_head.weight");
    if (view == nullptr) fail<CheckpointError>("load_causal_lm", "{}: tensor {} is missing", folder.string(), name);
    return *view;
  };
  // A config's sizes are believed, and memory asked for, only where the files bear them out.
  const std::string last_block = fmt::format("model.layers.{}.", config.num_hidden_layers - 1);
  const std::pair<std::string, std::vector<int64_t>> largest[] = {
      {"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}},
      {last_block + "self_attn.q_proj.weight", {config.query_width(), config.hidden_size}},
      {last_block + "mlp.gate_proj.weight", {config.intermediate_size, config.hidden_size}}};
  for (const auto& [name, shape] : largest) check_stored_shape(name, shape, require(name).shape);
  const torch::Dtype stored = torch_dtype(require("model.embed_tokens.weight"));
  if (!c10::isFloatingType(stored)) {
    fail<CheckpointError>("load_causal_lm", "{}: expected weights of a float dtype, got {}", folder.string(), c10::toString(stored));
  }
  const torch::Dtype dtype = load_dtype(options, stored);
  CausalLM model(config, torch::TensorOptions(dtype).device(options.device));
  std::set<std::string> known{"lm_head.weight"};
  for (const WeightSlot& slot : model->weight_slots()) {
    fill_slot(slot, as_tensor(require(slot.name)));
    known.insert(slot.name);
  }
  for (const std::string& name : files.names()) {
    const bool derived = name.ends_with("rotary_emb.inv_freq");
    if (!known.contains(name) && !derived) {
      fail<CheckpointError>("load_causal_lm", "{}: tensor {} has no place in a {}", folder.string(), name, config.architecture);
    }
  }
  model->eval();
  return model;
}

inline CausalLM load_llama2c(const std::filesystem::path& path, const LoadOptions& options) {
  const Llama2cFile file = Llama2cFile::open(path);
  TransformerConfig config;
  config.hidden_size = file.config().dim;
  config.intermediate_size = file.config().hidden_dim;
  config.num_hidden_layers = file.config().n_layers;
  config.num_attention_heads = file.config().n_heads;
  config.num_key_value_heads = file.config().n_kv_heads;
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.vocab_size = file.config().vocab_size;
  config.max_position_embeddings = file.config().seq_len;
  config.rms_norm_eps = 1e-5;
  config.tie_word_embeddings = file.config().shared_classifier;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  validate(config);
  CausalLM model(config, torch::TensorOptions(load_dtype(options, torch::kFloat32)).device(options.device));
  for (const WeightSlot& slot : model->weight_slots()) {
    std::vector<float> values = file.hugging_face_tensor(slot.name);
    fill_slot(slot, torch::from_blob(values.data(), slot.shape, torch::kFloat32));
  }
  model->eval();
  return model;
}

}  // namespace detail

/// Loads a decoder, frozen and in evaluation mode, its weights memory-mapped and copied once, straight to their place.
/// @param path  a Hugging Face folder (config.json, model.safetensors or shards with an index) or a llama2.c `.bin` file.
/// @throws CheckpointError for missing or damaged files and tensors; ConfigError for an unknown architecture.
inline CausalLM load_causal_lm(const std::filesystem::path& path, const LoadOptions& options = {}) {
  torch::NoGradGuard no_grad;
  if (!std::filesystem::exists(path)) fail<CheckpointError>("load_causal_lm", "{}: no such file or folder", path.string());
  return std::filesystem::is_directory(path) ? detail::load_hugging_face(path, options) : detail::load_llama2c(path, options);
}

/// Writes config.json and model.safetensors of a Hugging Face folder, in the dtype the model has.
/// @throws CheckpointError if the folder cannot be written.
inline void save_causal_lm(const CausalLM& model, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  TransformerConfig config = model->config();
  config.dtype = dtype_name(model->dtype());
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const WeightSlot& slot : model->weight_slots()) tensors.emplace_back(slot.name, slot.view().detach());
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  write_file_atomically(folder / "config.json", to_json(config).dump(2) + "\n");
}

/// Fills the weights for training from nothing: normal(0, 0.02), residual outputs scaled by 1/√(2L), norms 1, biases 0.
inline void initialize(CausalLM& model) {
  torch::NoGradGuard no_grad;
  const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(model->num_layers()));
  for (const WeightSlot& slot : model->weight_slots()) {
    if (slot.name.ends_with("bias")) slot.view().zero_();
    else if (slot.name.ends_with("norm.weight") || slot.name.ends_with("layernorm.weight")) slot.view().fill_(1.0);
    else if (slot.name.ends_with("o_proj.weight") || slot.name.ends_with("down_proj.weight")) slot.view().normal_(0.0, residual);
    else slot.view().normal_(0.0, 0.02);
  }
}

}  // namespace reft
