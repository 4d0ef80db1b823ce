#pragma once

#include <torch/types.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/pyreft_format.hpp"
#include "reft/checkpoint/pyreft_key.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/torch_zip_torch.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// Attachments as pyreft has them: one intervention per place and number, those of number 0 first, then of number 1, as
/// its scripts list prefix and suffix modules. Shared ones become copies.
/// @throws ConfigError for a type or a place that pyreft has no name for.
inline std::vector<PyreftIntervention> as_pyreft(const std::vector<Attachment>& attachments) {
  std::map<Site, int64_t> counts;
  std::vector<PyreftIntervention> interventions;
  for (const Attachment& attachment : attachments) {
    const auto type = attachment.intervention->type();
    const bool known = std::any_of(detail::kPyreftClasses.begin(), detail::kPyreftClasses.end(), [&](const auto& row) { return row.first == type; });
    if (!known) fail<ConfigError>("write_pyreft", "pyreft has no intervention of type {}", type);
    for (const Site& site : attachment.sites) {
      interventions.push_back({{site, counts[site]++}, attachment.intervention});
      (void)to_string(interventions.back().key);
    }
  }
  std::stable_sort(interventions.begin(), interventions.end(), [](const auto& a, const auto& b) { return a.key.index < b.key.index; });
  return interventions;
}

/// What is lost when these become a pyreft folder: one sentence each, for people.
inline std::vector<std::string> lost_in_pyreft(const std::vector<Attachment>& attachments, const AdapterInfo& info) {
  std::vector<std::string> lost;
  const auto add = [&](std::string sentence) {
    if (std::find(lost.begin(), lost.end(), sentence) == lost.end()) lost.push_back(std::move(sentence));
  };
  for (const Attachment& attachment : attachments) {
    const nlohmann::json options = attachment.intervention->options();
    const std::string_view type = attachment.intervention->type();
    add(fmt::format("positions {}, tied by {}", attachment.expression, to_string(attachment.tie)));
    if (attachment.position_rule == PositionRule::paper) add("position rule paper: pyreft shortens suffixes of odd short prompts by one more");
    if (attachment.position_rule == PositionRule::pyreft_shifted) add("position rule pyreft_shifted: tell pyreft that the prompt is one token shorter");
    if (attachment.phase != Phase::prompt) add(fmt::format("phase {}: pass it to pyreft's generate", to_string(attachment.phase)));
    if (!attachment.token_ids.empty()) add(fmt::format("token ids {}: pyreft edits whatever token is there", fmt::join(attachment.token_ids, ", ")));
    if (options.value("activation", "linear") != "linear") add(fmt::format("activation {}", options["activation"].get<std::string>()));
    if (options.value("dropout", 0.0) > 0) {
      add(fmt::format("dropout {}{}", options["dropout"].get<double>(), options["dropout_on"] == "edit" ? " on the edit: pyreft drops the whole new state" : ""));
    }
    if (attachment.sites.size() > 1) add("sharing across sites: each site has a copy");
    const auto shares = [&](const Attachment& other) { return other.intervention == attachment.intervention; };
    if (std::count_if(attachments.begin(), attachments.end(), shares) > 1) add("one intervention attached more than once: each place has a copy");
    if (type == "loreft" || type == "ortho_direft") {
      add(fmt::format("W and b of {} in float32: pyreft's own ReftModel.load makes them bfloat16", type));
    }
    if (type == "noreft" || type == "direft") add(fmt::format("add_bias of {}: without it pyreft's own ReftModel.load stops, its load_state_dict does not", type));
  }
  if (!info.base_model.empty()) add("base model " + info.base_model);
  if (!info.prompt_template.empty()) add("prompt template " + info.prompt_template);
  return lost;
}

namespace detail {

/// The state dict of pyreft's class.
inline NamedTensors pyreft_state_dict(InterventionBase& intervention) {
  const NamedTensors state = intervention.state();
  const torch::Tensor R = state.at("R"), b = state.at("b");
  if (intervention.type() == "loreft") return {{"rotate_layer", R.t()}, {"weight", state.at("W")}, {"bias", b}};
  const torch::Tensor width = torch::tensor(R.size(1), torch::kInt64);
  NamedTensors tensors{{"embed_dim", width}, {"interchange_dim", width}};
  if (state.contains("W")) {
    tensors["learned_source.weight"] = state.at("W");
    tensors["learned_source.bias"] = b;
  } else {
    tensors["learned_source"] = b;
  }
  if (intervention.orthonormal() != nullptr) {
    std::tie(tensors[kPyreftOriginal], tensors[kPyreftBase]) = orthogonal_start(R);
  } else {
    tensors["proj_layer.weight"] = R;
    if (state.contains("c")) tensors["proj_layer.bias"] = state.at("c");
  }
  return tensors;
}

inline nlohmann::json pyreft_config(const std::vector<PyreftIntervention>& interventions) {
  nlohmann::json config{{"mode", "parallel"}};
  for (const auto& [key, intervention] : interventions) {
    nlohmann::json row{*key.site.layer, to_string(key.site.component), "pos", 1, intervention->options()["rank"]};
    row.insert(row.end(), 9, nullptr);
    config["representations"].push_back(row);
    for (const auto& [type, class_name] : kPyreftClasses) {
      if (type == intervention->type()) config["intervention_types"].push_back(fmt::format("<class 'pyreft.interventions.{}'>", class_name));
    }
    config["intervention_dimensions"].push_back(intervention->hidden_size());
    config["intervention_constant_sources"].push_back(true);
    config["sorted_keys"].push_back(to_string(key));
  }
  return config;
}

}  // namespace detail

/// Writes a folder that `pyreft.ReftModel.load` opens, whole or not at all.
/// @param head  tensors of the base that were trained with the interventions, by their names in the base.
/// @throws ConfigError if there is nothing to write, or the folder is not empty and `overwrite` is false.
inline void write_pyreft(const std::vector<PyreftIntervention>& interventions, const std::filesystem::path& folder, bool overwrite = false,
                         const std::map<std::string, torch::Tensor>& head = {}) {
  if (interventions.empty()) fail<ConfigError>("write_pyreft", "{}: there is no intervention to write", folder.string());
  AtomicFolder written(folder, overwrite);
  for (const auto& [key, intervention] : interventions) {
    save_torch_tensors(written.path() / fmt::format("intkey_{}.bin", to_string(key)), detail::pyreft_state_dict(*intervention));
  }
  if (!head.empty()) save_torch_tensors(written.path() / "pytorch_model.bin", head);
  write_file_atomically(written.path() / "config.json", detail::pyreft_config(interventions).dump(2) + "\n");
  written.commit();
}

/// Every matrix of one intervention, dense, in float32, under the names of pyreft's modules:
///   R (D, r), original (D, r), base (D, D) of an orthonormal projection, or P (r, D) and c (r) of a free one;
///   W (r, D) and b (r), or s (r) of a constant source.
inline std::map<std::string, torch::Tensor> dense_pyreft_tensors(InterventionBase& intervention) {
  const auto state = intervention.state();
  const torch::Tensor R = state.at("R");
  std::map<std::string, torch::Tensor> tensors;
  if (intervention.orthonormal() != nullptr) {
    tensors["R"] = R.t();
    std::tie(tensors["original"], tensors["base"]) = detail::orthogonal_start(R);
  } else {
    tensors["P"] = R;
    if (state.contains("c")) tensors["c"] = state.at("c");
  }
  if (state.contains("W")) tensors["W"] = state.at("W");
  tensors[state.contains("W") ? "b" : "s"] = state.at("b");
  for (auto& [name, tensor] : tensors) tensor = tensor.to(torch::kFloat32);
  return tensors;
}

}  // namespace reft
