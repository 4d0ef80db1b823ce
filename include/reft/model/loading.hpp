#pragma once

#include <torch/cuda.h>
#include <torch/types.h>

#include <algorithm>
#include <cstring>
#include <deque>
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
#include "reft/io/torch_zip_torch.hpp"
#include "reft/model/causal_lm.hpp"
#include "reft/model/config_json.hpp"
#include "reft/model/masked_lm.hpp"
#include "reft/model/sequence_classifier.hpp"

namespace reft {

struct LoadOptions {
  std::optional<torch::Dtype> dtype;    ///< of the weights; absent: as stored, but float32 for float16 on a CPU
  torch::Device device = torch::kCPU;
  std::optional<int64_t> num_labels;    ///< of a classification head, begun anew where the folder has none of that size; absent: as stored
  Quantization quantization = Quantization::none;  ///< of the blocks' matrices, once they are loaded
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

/// The tensors of a model folder by name, from one file or from the shards an index names: safetensors, or else what
/// torch.save wrote. Files are memory-mapped and tensors views of them, so nothing is held twice.
class WeightFiles {
 public:
  /// @param function  that is loading, which error texts name.
  WeightFiles(const std::filesystem::path& folder, const char* function) : folder_(folder), function_(function) {
    for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
      const auto single = folder / name, index = folder / (std::string(name) + ".index.json");
      if (std::filesystem::exists(single)) open(single);
      else if (std::filesystem::exists(index)) for (const std::string& shard : shard_names(index)) open(folder / shard);
      else continue;
      return;
    }
    fail<CheckpointError>(function, "{}: expected model.safetensors or model.safetensors.index.json, or pytorch_model.bin",
                          folder.string());
  }

  const std::filesystem::path& folder() const { return folder_; }
  const char* function() const { return function_; }

  const torch::Tensor* find(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }

 private:
  void open(const std::filesystem::path& path) {
    if (path.extension() == ".bin") {
      const auto& file = zip_files_.emplace_back(TorchZipFile::open(path));
      for (const auto& [name, view] : file.tensors()) tensors_[name] = as_tensor(view);
    } else {
      const auto& file = safetensors_files_.emplace_back(SafetensorsFile::open(path));
      for (const auto& [name, view] : file.tensors()) tensors_[name] = as_tensor(view);
    }
  }

  std::set<std::string> shard_names(const std::filesystem::path& index_path) const {
    std::ifstream stream(index_path);
    const auto json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
      fail<CheckpointError>(function_, "{}: expected an object with a weight_map", index_path.string());
    }
    std::set<std::string> names;
    for (const auto& [tensor, file] : json["weight_map"].items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      if (name.empty() || name.find('/') != std::string::npos) {
        fail<CheckpointError>(function_, "{}: {}: expected a file name, got {}", index_path.string(), tensor, file.dump());
      }
      names.insert(name);
    }
    return names;
  }

  std::filesystem::path folder_;
  const char* function_;
  std::deque<SafetensorsFile> safetensors_files_;  // at fixed addresses: tensors look into them
  std::deque<TorchZipFile> zip_files_;
  std::map<std::string, torch::Tensor> tensors_;
};

inline torch::Dtype load_dtype(const LoadOptions& options, torch::Dtype stored) {
  if (options.dtype) return *options.dtype;
  return stored == torch::kFloat16 && options.device.is_cpu() ? torch::kFloat32 : stored;
}

inline void check_stored_shape(const char* function, const std::string& name, torch::IntArrayRef expected, torch::IntArrayRef stored) {
  if (stored != expected) {
    fail<CheckpointError>(function, "{}: expected shape {}, got {}", name, c10::str(expected), c10::str(stored));
  }
}

/// Copies one file tensor into its slot, converting dtype and device on the way.
inline void fill_slot(const char* function, const WeightSlot& slot, const torch::Tensor& source) {
  check_stored_shape(function, slot.name, slot.shape, source.sizes());
  slot.values.copy_(source.reshape(slot.values.sizes()));
}

/// The tensor of a slot, which a file may also call otherwise; null if it has none.
inline const torch::Tensor* find_tensor(const WeightFiles& files, const TransformerConfig& config, std::string name) {
  const std::string base(config.weights.base);
  const auto find = [&](const std::string& wanted) {
    const torch::Tensor* found = files.find(wanted);
    // A bare base model leaves the prefix out.
    if (found == nullptr && wanted.starts_with(base)) found = files.find(wanted.substr(base.size()));
    return found;
  };
  if (const torch::Tensor* found = find(name)) return found;
  // One bias under two names: of the head, and of the matrix in it.
  const std::string masked_bias(config.weights.masked_bias);
  if (!masked_bias.empty() && name == masked_bias + ".bias") return find(masked_bias + ".decoder.bias");
  // The oldest encoders name a norm's tensors as TensorFlow did.
  for (const auto& [ours, theirs] : {std::pair{"LayerNorm.weight", "LayerNorm.gamma"}, std::pair{"LayerNorm.bias", "LayerNorm.beta"}}) {
    if (name.ends_with(ours)) return find(name.substr(0, name.size() - std::strlen(ours)) + theirs);
  }
  // A tied file may hold its one matrix under either name.
  const bool is_embedding = name == base + std::string(config.weights.embedding) + ".weight";
  return is_embedding && config.tie_word_embeddings ? files.find(std::string(config.weights.language_head) + ".weight") : nullptr;
}

inline const torch::Tensor& require_tensor(const WeightFiles& files, const TransformerConfig& config, const std::string& name) {
  if (const torch::Tensor* found = find_tensor(files, config, name)) return *found;
  fail<CheckpointError>(files.function(), "{}: tensor {} is missing", files.folder().string(), name);
}

/// A config's sizes are believed, and memory asked for, only where the files bear them out.
inline void check_sizes(const WeightFiles& files, const TransformerConfig& config) {
  const WeightNames& names = config.weights;
  const std::string base(names.base), embedding = base + std::string(names.embedding) + ".weight";
  check_stored_shape(files.function(), embedding, {config.vocab_size, config.hidden_size}, require_tensor(files, config, embedding).sizes());
  const std::string last = fmt::format("{}{}{}.", base, names.layers, config.num_hidden_layers - 1);
  const auto check = [&](std::string_view name, int64_t rows, int64_t columns) {
    if (names.transposed) std::swap(rows, columns);
    const std::string full = fmt::format("{}{}.weight", last, name);
    check_stored_shape(files.function(), full, {rows, columns}, require_tensor(files, config, full).sizes());
  };
  if (names.query_key_value.empty()) check(names.query, config.query_width(), config.hidden_size);
  else check(names.query_key_value, config.merged_width(), config.hidden_size);
  if (config.num_experts > 0) check(names.router, config.num_experts, config.hidden_size);
  else check(names.down, config.hidden_size, config.intermediate_size);
}

/// Tensors that files hold and nobody needs: what is computed anew.
inline bool is_derived(const std::string& name) {
  for (const std::string_view ending : {"rotary_emb.inv_freq", "embeddings.position_ids", "attn.bias", "attn.masked_bias",
                                        "attention.bias", "attention.masked_bias"}) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

/// Gives values to what a head lacks in the files: normal(0, 0.02), biases 0.   @return the names.
inline std::set<std::string> fresh_head(const std::vector<WeightSlot>& head, const WeightFiles& files, const TransformerConfig& config) {
  std::set<std::string> names;
  for (const WeightSlot& slot : head) {
    const torch::Tensor* stored = find_tensor(files, config, slot.name);
    if (stored != nullptr && stored->sizes() == slot.shape) continue;
    if (slot.shape.size() == 1) slot.values.zero_();
    else slot.values.normal_(0.0, 0.02);
    names.insert(slot.name);
  }
  return names;
}

/// Makes a Model and fills it from the files.
/// @param ignored  beginnings of names that a file may hold and this model has no place for: another head's.
template <class Model>
Model load_from_files(const WeightFiles& files, const TransformerConfig& config, const LoadOptions& options,
                      const std::vector<std::string>& ignored = {}) {
  check_sizes(files, config);
  const std::string base(config.weights.base);
  const torch::Tensor& embedding = require_tensor(files, config, base + std::string(config.weights.embedding) + ".weight");
  const torch::Dtype stored = embedding.scalar_type();
  if (!c10::isFloatingType(stored)) {
    fail<CheckpointError>(files.function(), "{}: expected weights of a float dtype, got {}", files.folder().string(), c10::toString(stored));
  }
  Model model(config, torch::TensorOptions(load_dtype(options, stored)).device(options.device));
  std::set<const torch::Tensor*> used;
  const std::set<std::string> fresh = options.num_labels ? fresh_head(model->head_slots(), files, config) : std::set<std::string>{};
  for (const WeightSlot& slot : model->weight_slots()) {
    if (fresh.contains(slot.name)) continue;
    const torch::Tensor& tensor = require_tensor(files, config, slot.name);
    fill_slot(files.function(), slot, tensor);
    used.insert(&tensor);
  }
  for (const std::string& name : files.names()) {
    const bool known = used.contains(files.find(name)) || is_derived(name) || name == std::string(config.weights.language_head) + ".weight";
    if (known || std::any_of(ignored.begin(), ignored.end(), [&](const std::string& start) { return name.starts_with(start); })) continue;
    fail<CheckpointError>(files.function(), "{}: tensor {} has no place in a {}", files.folder().string(), name, config.architecture);
  }
  if (options.quantization != Quantization::none) model->quantize(options.quantization);
  model->eval();
  return model;
}

inline CausalLM load_hugging_face(const std::filesystem::path& folder, const LoadOptions& options) {
  const TransformerConfig config = read_config(folder);
  if (!config.causal) {
    fail<ConfigError>("load_causal_lm", "{}: a {} is an encoder and continues no text; expected a decoder", folder.string(), config.architecture);
  }
  return load_from_files<CausalLM>(WeightFiles(folder, "load_causal_lm"), config, options, {"score."});
}

// What a folder may hold for other tasks than the one it is loaded for.
inline std::vector<std::string> other_heads(const TransformerConfig& config) {
  return {"cls.", "lm_head.", "vocab_", "classifier.", "pre_classifier.", "score.", "pooler.", std::string(config.weights.base) + "pooler."};
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
  config.norm_eps = 1e-5;
  config.tie_word_embeddings = file.config().shared_classifier;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  validate(config);
  CausalLM model(config, torch::TensorOptions(load_dtype(options, torch::kFloat32)).device(options.device));
  for (const WeightSlot& slot : model->weight_slots()) {
    std::vector<float> values = file.hugging_face_tensor(slot.name);
    fill_slot("load_causal_lm", slot, torch::from_blob(values.data(), slot.shape, torch::kFloat32));
  }
  if (options.quantization != Quantization::none) model->quantize(options.quantization);
  model->eval();
  return model;
}

}  // namespace detail

/// Loads a decoder, frozen and in evaluation mode, its weights memory-mapped and copied once, straight to their place.
/// @param path  a Hugging Face folder (config.json, and model.safetensors or pytorch_model.bin, or shards of one with an index) or a llama2.c `.bin` file.
/// @throws CheckpointError for missing or damaged files and tensors; ConfigError for an unknown architecture.
inline CausalLM load_causal_lm(const std::filesystem::path& path, const LoadOptions& options = {}) {
  torch::NoGradGuard no_grad;
  if (!std::filesystem::exists(path)) fail<CheckpointError>("load_causal_lm", "{}: no such file or folder", path.string());
  return std::filesystem::is_directory(path) ? detail::load_hugging_face(path, options) : detail::load_llama2c(path, options);
}

/// Loads a base model alone, decoder or encoder, whatever head its folder has.   @throws as `load_causal_lm`.
inline Transformer load_transformer(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  torch::NoGradGuard no_grad;
  const TransformerConfig config = read_config(folder);
  return detail::load_from_files<Transformer>(detail::WeightFiles(folder, "load_transformer"), config, options, detail::other_heads(config));
}

/// Loads an encoder with its masked-language head.   @throws as `load_causal_lm`.
inline MaskedLM load_masked_lm(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  torch::NoGradGuard no_grad;
  const TransformerConfig config = read_config(folder);
  return detail::load_from_files<MaskedLM>(detail::WeightFiles(folder, "load_masked_lm"), config, options, detail::other_heads(config));
}

/// Loads a decoder or an encoder with a classification head: the folder's own, or with `options.num_labels` a new one
/// where it has none.   @throws as `load_causal_lm`.
inline SequenceClassifier load_sequence_classifier(const std::filesystem::path& folder, const LoadOptions& options = {}) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = read_config(folder);
  if (options.num_labels) config.num_labels = *options.num_labels;
  return detail::load_from_files<SequenceClassifier>(detail::WeightFiles(folder, "load_sequence_classifier"), config, options, detail::other_heads(config));
}

/// Writes config.json and model.safetensors of a Hugging Face folder, in the dtype the model has.
/// @throws CheckpointError if the folder cannot be written.
inline void save_causal_lm(const CausalLM& model, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  TransformerConfig config = model->config();
  config.dtype = dtype_name(model->dtype());
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const WeightSlot& slot : model->weight_slots()) tensors.emplace_back(slot.name, slot.values.detach().reshape(slot.shape));
  save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  write_file_atomically(folder / "config.json", to_json(config).dump(2) + "\n");
}

/// Fills the weights for training from nothing: normal(0, 0.02), residual outputs scaled by 1/√(2L), norms 1, biases 0.
inline void initialize(CausalLM& model) {
  torch::NoGradGuard no_grad;
  const double residual = 0.02 / std::sqrt(2.0 * static_cast<double>(model->num_layers()));
  for (const WeightSlot& slot : model->weight_slots()) {
    if (slot.name.ends_with("bias")) slot.values.zero_();
    else if (slot.name.ends_with("norm.weight") || slot.name.ends_with("layernorm.weight")) slot.values.fill_(1.0);
    else if (slot.name.ends_with("o_proj.weight") || slot.name.ends_with("down_proj.weight")) slot.values.normal_(0.0, residual);
    else slot.values.normal_(0.0, 0.02);
  }
}

}  // namespace reft
