#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "reft/hook/parse_integer.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/io/gguf.hpp"
#include "reft/reft_model.hpp"

namespace reft {

// Note [Control vectors]
// llama.cpp adds one vector to the output of each layer, at all positions, in prompt and answer alike:
//   h' = h + v_l,   tensor "direction.<l>" (D) float32,   l in 1..L−1 (it has none for layer 0)
// That is what a lobireft of rank one or more does, v = Rᵀb, and activation_addition, v = α times its vector. A vector read
// is the lobireft with R = v/|v|, b = |v|.
// Ref: llama.cpp common_control_vector_load, llama_adapter_cvec.

/// Attachments as control vectors.   @return (D) float32 by layer.
/// @throws ConfigError for anything that is not a constant added to a layer's output, for layer 0, and for two at a layer.
inline std::map<int, torch::Tensor> as_control_vectors(const std::vector<Attachment>& attachments) {
  std::map<int, torch::Tensor> vectors;
  for (const Attachment& attachment : attachments) {
    const auto refuse = [&](const std::string& what) {
      fail<ConfigError>("write_control_vectors", "expected lobireft or activation_addition at the block_output of layers from 1 on, one each, got {}",
                        what);
    };
    const std::string_view type = attachment.intervention->type();
    if (type != "lobireft" && type != "activation_addition") refuse(std::string(type));
    const auto state = attachment.intervention->state();
    const torch::Tensor added = type == "lobireft" ? state.at("b").matmul(state.at("R"))
                                                   : state.at("vector") * attachment.intervention->options()["alpha"].get<double>();
    const torch::Tensor v = added.to(torch::kCPU, torch::kFloat32).contiguous();
    for (const Site& site : attachment.sites) {
      if (site.component != Component::block_output || *site.layer < 1) refuse(to_string(site));
      if (!vectors.emplace(*site.layer, v).second) refuse("two at " + to_string(site));
    }
  }
  return vectors;
}

/// What is lost when these become control vectors: one sentence each, for people.
inline std::vector<std::string> lost_in_control_vectors(const std::vector<Attachment>& attachments) {
  std::vector<std::string> lost;
  for (const Attachment& attachment : attachments) {
    const std::string where = to_string(attachment.sites.front());
    if (attachment.positions.text() != "all") lost.push_back(fmt::format("{}: positions {}: llama.cpp adds at all", where, attachment.positions.text()));
    if (!attachment.token_ids.empty()) lost.push_back(fmt::format("{}: token ids: llama.cpp adds to any token", where));
    if (attachment.phase != Phase::every) lost.push_back(fmt::format("{}: phase {}: llama.cpp adds in every phase", where, to_string(attachment.phase)));
  }
  return lost;
}

/// @param model_type  of the base, "llama": what llama.cpp calls its architecture.
/// @throws ConfigError if there is none; Error where it cannot be written.
inline void write_control_vectors(const std::map<int, torch::Tensor>& vectors, const std::filesystem::path& path, const std::string& model_type) {
  if (vectors.empty()) fail<ConfigError>("write_control_vectors", "{}: there is no vector to write", path.string());
  std::map<std::string, GgufTensor> tensors;
  for (const auto& [layer, v] : vectors) {
    tensors[fmt::format("direction.{}", layer)] = {v.sizes().vec(), {v.const_data_ptr<float>(), static_cast<size_t>(v.numel())}};
  }
  write_gguf(path, {{"general.architecture", "controlvector"}, {"controlvector.model_hint", model_type},
                    {"controlvector.layer_count", static_cast<uint32_t>(vectors.size())}}, tensors);
}

/// @return (D) float32 by layer.   @throws CheckpointError for a damaged file, or one that holds something else.
inline std::map<int, torch::Tensor> read_control_vectors(const std::filesystem::path& path) {
  constexpr std::string_view kPrefix = "direction.";
  const GgufFile file = GgufFile::open(path);
  std::map<int, torch::Tensor> vectors;
  for (const auto& [name, tensor] : file.tensors()) {
    const auto layer = name.starts_with(kPrefix) ? detail::parse_integer<int>(std::string_view(name).substr(kPrefix.size())) : std::nullopt;
    if (!layer || *layer < 1 || tensor.shape.size() != 1) {
      fail<CheckpointError>("read_control_vectors", "{}: expected vectors direction.1, direction.2, …, got {}", path.string(), name);
    }
    vectors[*layer] = torch::tensor(at::ArrayRef<float>(tensor.values.data(), tensor.values.size()));
  }
  if (vectors.empty()) fail<CheckpointError>("read_control_vectors", "{}: it holds no vector", path.string());
  return vectors;
}

/// Attaches the vectors of a file, at all positions in every phase.
/// @throws CheckpointError for a damaged file, a layer or width the base does not have, or a zero vector; ConfigError where
///   an edit of the model is at the output of one of the layers. The model is then as it was.
template <class Base>
void load_control_vectors(ReftModel<Base>& model, const std::filesystem::path& path) {
  std::vector<Attachment> attachments;
  for (const auto& [layer, v] : read_control_vectors(path)) {
    const auto refuse = [&, layer = layer](const std::string& what) {
      fail<CheckpointError>("load_control_vectors", "{}: direction.{} {}", path.string(), layer, what);
    };
    const int64_t num_layers = model.base()->num_layers();
    if (layer >= num_layers) refuse(fmt::format("is of no layer: the model has {} (0..{})", num_layers, num_layers - 1));
    const Site site{.layer = layer};
    if (v.size(0) != model.base()->width(site)) refuse(fmt::format("is {} wide, the model {}", v.size(0), model.base()->width(site)));
    const torch::Tensor length = v.norm();
    if (!(length.item<float>() > 0.0f)) refuse("is zero or not finite");
    const auto intervention = load_intervention("lobireft", v.size(0), {{"rank", 1}}, {{"R", (v / length).unsqueeze(0)}, {"b", length.unsqueeze(0)}});
    attachments.push_back({intervention, {site}, Positions::parse("all"), Phase::every});
  }
  model.attach(std::move(attachments));
}

}  // namespace reft
