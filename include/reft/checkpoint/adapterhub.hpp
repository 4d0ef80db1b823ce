#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "reft/checkpoint/pyreft.hpp"
#include "reft/hook/parse_integer.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/io/torch_zip_torch.hpp"
#include "reft/reft_model.hpp"

namespace reft {

// Note [Folders of the adapters package]
// adapter_config.json has one "config" for all layers: architecture "reft", layers, r, orthogonality, tied_weights, prefix
// and suffix positions, non_linearity, dropout. pytorch_adapter.bin (or adapter.safetensors) has, behind
// "<module of the layer>.reft_layer.refts.<name>.units.<u>.", learned_source.weight (r, D) and .bias (r), and projection.weight
// (r, D), or in its place the two tensors of torch's orthogonal parametrization: original (r, D) and base (D, D).
// Unit 0 edits the prefix, unit 1 the suffix; tied, unit 0 edits both. Whether the projection of h is taken out of it
// (NoReFT) or not (DiReFT) is not stored: the package itself reads every folder back as if it were.
// Ref: adapters 1.3.0, methods/reft.py, configuration/adapter_config.py.

/// What the adapters package calls the base.
struct AdapterHubBase {
  std::string layers = "model.layers.";  ///< module of the layers: "transformer.h.", "bert.encoder.layer.", …
  std::string model_type = "llama";
  std::string model_class = "LlamaForCausalLM";
};

namespace detail {

inline constexpr const char* kAdapterHubConfig = "adapter_config.json";
inline constexpr const char* kAdapterHubTensors = "pytorch_adapter.bin";
inline constexpr const char* kAdapterHubSafetensors = "adapter.safetensors";
inline constexpr const char* kAdapterHubName = "reft";  // of what is written here

template <class... Args>
[[noreturn]] void refuse_adapterhub(const std::filesystem::path& path, fmt::format_string<Args...> message, Args&&... args) {
  fail<CheckpointError>("load_adapterhub", "{}: {}", path.string(), fmt::format(message, std::forward<Args>(args)...));
}

/// The "config" object of a folder of the package; nothing if it is none.
inline std::optional<nlohmann::json> adapterhub_config(const std::filesystem::path& folder) {
  const auto path = folder / kAdapterHubConfig;
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto json = nlohmann::json::parse(MappedFile::open(path)->text(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("config") || !json["config"].is_object()) return std::nullopt;
  if (json["config"].value("architecture", nlohmann::json()) != "reft") return std::nullopt;
  return json["config"];
}

/// The settings that all layers share.
struct AdapterHubSettings {
  int64_t rank = 0, prefix = 0, suffix = 0;
  bool orthogonal = false, tied = false;
  std::string activation = "linear";
  double dropout = 0.0;

  /// "f3", "l1", "f3+l1".
  std::string positions() const {
    std::string text = prefix > 0 ? fmt::format("f{}", prefix) : "";
    if (suffix > 0) text += fmt::format("{}l{}", text.empty() ? "" : "+", suffix);
    return text;
  }

  static AdapterHubSettings read(const std::filesystem::path& folder, const nlohmann::json& json) {
    AdapterHubSettings settings;
    try {
      json.at("r").get_to(settings.rank);
      json.at("prefix_positions").get_to(settings.prefix);
      json.at("suffix_positions").get_to(settings.suffix);
      json.at("orthogonality").get_to(settings.orthogonal);
      json.at("tied_weights").get_to(settings.tied);
      settings.dropout = json.value("dropout", 0.0);
      if (json.contains("non_linearity") && !json["non_linearity"].is_null()) json["non_linearity"].get_to(settings.activation);
    } catch (const nlohmann::json::exception& error) {
      refuse_adapterhub(folder / kAdapterHubConfig, "config: {}", error.what());
    }
    if (settings.rank < 1 || settings.prefix < 0 || settings.suffix < 0 || settings.positions().empty()) {
      refuse_adapterhub(folder / kAdapterHubConfig, "config: expected r and the positions to be positive");
    }
    return settings;
  }
};

inline std::map<std::string, torch::Tensor> adapterhub_tensors(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / kAdapterHubTensors)) return load_torch_tensors(folder / kAdapterHubTensors);
  const SafetensorsFile file = SafetensorsFile::open(folder / kAdapterHubSafetensors);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, view] : file.tensors()) tensors[name] = as_tensor(view).clone();
  return tensors;
}

/// The tensors of each unit: by layer, by unit, by name in the unit.
inline std::map<int, std::map<int, NamedTensors>> adapterhub_units(const std::filesystem::path& folder) {
  std::map<int, std::map<int, NamedTensors>> units;
  for (const auto& [key, tensor] : adapterhub_tensors(folder)) {
    constexpr std::string_view kModule = ".reft_layer.refts.", kUnits = ".units.";
    const std::string_view name = key;
    const auto module = name.find(kModule);
    const auto unit = module == std::string_view::npos ? module : name.find(kUnits, module);
    const auto layer_begin = module == std::string_view::npos ? module : name.rfind('.', module - 1);
    const auto rest = unit == std::string_view::npos ? unit : name.find('.', unit + kUnits.size());
    if (layer_begin == std::string_view::npos || rest == std::string_view::npos) refuse_adapterhub(folder, "tensor {} is not of a ReFT unit", key);
    const auto layer = parse_integer<int>(name.substr(layer_begin + 1, module - layer_begin - 1));
    const auto index = parse_integer<int>(name.substr(unit + kUnits.size(), rest - unit - kUnits.size()));
    if (!layer || *layer < 0 || !index || *index < 0 || *index > 1) refuse_adapterhub(folder, "tensor {} is of no layer or unit", key);
    units[*layer][*index][std::string(name.substr(rest + 1))] = tensor;
  }
  return units;
}

/// R, W and b of a unit.
inline NamedTensors adapterhub_state(const std::filesystem::path& folder, int layer, NamedTensors unit, const AdapterHubSettings& settings) {
  const auto take = [&](const std::string& name, int64_t dimensions) {
    const auto node = unit.extract(name);
    if (node.empty() || node.mapped().dim() != dimensions || !node.mapped().is_floating_point()) {
      refuse_adapterhub(folder, "layer {}: expected {} with {} dimensions", layer, name, dimensions);
    }
    return node.mapped().to(torch::kFloat32);
  };
  NamedTensors state{{"W", take("learned_source.weight", 2)}, {"b", take("learned_source.bias", 1)}};
  if (settings.orthogonal) {
    const torch::Tensor X = take("projection.parametrizations.weight.original", 2).t(), B = take("projection.parametrizations.weight.0.base", 2);
    if (X.size(0) < X.size(1) || B.size(0) != B.size(1) || B.size(0) != X.size(0)) refuse_adapterhub(folder, "layer {}: original and base do not fit", layer);
    state["R"] = evaluate_orthogonal(X, B).t();
  } else {
    state["R"] = take("projection.weight", 2);
  }
  if (!unit.empty()) refuse_adapterhub(folder, "layer {}: tensor {} has no place", layer, unit.begin()->first);
  return state;
}

}  // namespace detail

/// True for a folder that the adapters package wrote of a ReFT adapter.
inline bool is_adapterhub_folder(const std::filesystem::path& folder) { return detail::adapterhub_config(folder).has_value(); }

/// Attaches the interventions of such a folder at the layers' outputs.
/// @param type  noreft or direft, which the folder does not tell apart; without one a folder without orthogonality is refused.
/// @throws CheckpointError for damaged files, or a layer or width the base does not have; ConfigError where the type is
///   wanted or contradicts the folder, or positions overlap those of an edit the model has. The model is then as it was.
template <class Base>
void load_adapterhub(ReftModel<Base>& model, const std::filesystem::path& folder, std::string type = "") {
  const auto json = detail::adapterhub_config(folder);
  if (!json) detail::refuse_adapterhub(folder, "expected a ReFT adapter of the adapters package");
  const auto settings = detail::AdapterHubSettings::read(folder, *json);
  if (type == "nodireft") type = "direft";
  if (type.empty() && settings.orthogonal) type = "loreft";
  if (settings.orthogonal ? type != "loreft" : type != "noreft" && type != "direft") {
    fail<ConfigError>("load_adapterhub", "{}: its orthogonality is {}, so it is {}, got \"{}\"", folder.string(), settings.orthogonal,
                      settings.orthogonal ? "loreft" : "noreft or direft, which it does not say: name it", type);
  }
  const Positions positions = Positions::parse(settings.positions());
  const Tie tie = settings.tied ? Tie::all : Tie::group;
  const std::vector<Positions> parts = positions.split(tie);
  std::vector<Attachment> attachments;
  for (auto& [layer, units] : detail::adapterhub_units(folder)) {
    if (layer >= model.base()->num_layers()) detail::refuse_adapterhub(folder, "layer {}: the model has {}", layer, model.base()->num_layers());
    const Site site{.layer = layer};
    for (size_t k = 0; k < parts.size(); ++k) {
      const int unit = !settings.tied && settings.prefix == 0 ? 1 : static_cast<int>(k);  // the suffix has the second unit, alone too
      const auto state = detail::adapterhub_state(folder, layer, units[unit], settings);
      const int64_t width = model.base()->width(site);
      try {
        const auto intervention = load_intervention(type, width, {{"rank", settings.rank}, {"dropout", settings.dropout}, {"activation", settings.activation}}, state);
        attachments.push_back({intervention, {site}, parts[k], Phase::prompt, PositionRule::paper, positions.text(), tie});
      } catch (const Error& error) {
        detail::refuse_adapterhub(folder, "layer {}: {}", layer, error.what());
      }
    }
  }
  if (attachments.empty()) detail::refuse_adapterhub(folder, "it holds no tensor");
  model.attach(std::move(attachments));
}

namespace detail {

/// What all attachments share, as a folder of the package can say it.
inline AdapterHubSettings shared_settings(const std::vector<Attachment>& attachments) {
  const auto refuse = [](const std::string& what) {
    fail<ConfigError>("write_adapterhub", "the adapters package has one setting for all layers, {}", what);
  };
  if (attachments.empty()) fail<ConfigError>("write_adapterhub", "there is no intervention to write");
  const Attachment& first = attachments.front();
  const nlohmann::json options = first.intervention->options();
  AdapterHubSettings settings;
  for (const Attachment& attachment : attachments) {
    const auto type = attachment.intervention->type();
    if (type != "loreft" && type != "noreft" && type != "direft") refuse(fmt::format("loreft, noreft or direft, got {}", type));
    if (type != first.intervention->type() || attachment.intervention->options() != options) refuse("but these differ in type or options");
    if (attachment.expression != first.expression || attachment.tie != first.tie) refuse("but these differ in positions or tying");
    for (const Site& site : attachment.sites) {
      if (site.component != Component::block_output) refuse("at the output of the layer, got " + to_string(site));
    }
  }
  if (options.value("projection_bias", false)) refuse("without a projection bias");
  const Positions positions = Positions::parse(first.expression);
  for (const PositionTerm& term : positions.terms()) {
    if (term.kind == PositionTerm::Kind::prefix && settings.prefix == 0 && settings.suffix == 0) settings.prefix = term.count;
    else if (term.kind == PositionTerm::Kind::suffix && settings.suffix == 0) settings.suffix = term.count;
    else refuse("f<n>, l<n> or f<n>+l<n>, got positions " + first.expression);
  }
  if (first.tie == Tie::position && settings.prefix + settings.suffix > 1) refuse("tied by group or all, got position");
  settings.tied = first.tie == Tie::all && settings.prefix > 0 && settings.suffix > 0;
  settings.orthogonal = first.intervention->type() == "loreft";
  settings.rank = options.at("rank");
  settings.activation = options.value("activation", "linear");
  settings.dropout = options.value("dropout", 0.0);
  return settings;
}

inline NamedTensors adapterhub_unit(InterventionBase& intervention) {
  const NamedTensors state = intervention.state();
  NamedTensors unit{{"learned_source.weight", state.at("W")}, {"learned_source.bias", state.at("b")}};
  if (intervention.orthonormal() == nullptr) {
    unit["projection.weight"] = state.at("R");
  } else {
    const auto [original, base] = orthogonal_start(state.at("R"));
    unit["projection.parametrizations.weight.original"] = original.t();
    unit["projection.parametrizations.weight.0.base"] = base;
  }
  return unit;
}

}  // namespace detail

/// What is lost when these become a folder of the adapters package: one sentence each, for people.
inline std::vector<std::string> lost_in_adapterhub(const std::vector<Attachment>& attachments) {
  std::vector<std::string> lost{"the end of the prompt: the package counts suffix positions from the end of the whole sequence it is given"};
  const Attachment& first = attachments.front();
  if (std::any_of(attachments.begin(), attachments.end(), [](const Attachment& a) { return !a.token_ids.empty(); })) lost.push_back("token ids");
  if (first.phase != Phase::prompt) lost.push_back(fmt::format("phase {}", to_string(first.phase)));
  if (Positions::parse(first.expression).terms().size() > 1) {
    lost.push_back(fmt::format("position rule {}: in a prompt shorter than prefix and suffix together the package's suffix overwrites its prefix",
                               to_string(first.position_rule)));
  }
  const nlohmann::json options = first.intervention->options();
  if (options.value("dropout", 0.0) > 0 && options["dropout_on"] == "edit") lost.push_back("dropout on the edit: the package drops the whole new state");
  if (first.intervention->type() == "direft") lost.push_back("direft: the package's own load_adapter reads it as noreft, unless an adapter \"reft\" with DiReftConfig was added before");
  return lost;
}

/// Writes attachments as the adapters package saves an adapter called "reft", whole or not at all.
/// @throws ConfigError for what it has no place for, or a folder that is not empty while `overwrite` is false.
inline void write_adapterhub(const std::vector<Attachment>& attachments, int64_t num_layers, const AdapterHubBase& base,
                             const std::filesystem::path& folder, bool overwrite = false) {
  const auto settings = detail::shared_settings(attachments);
  NamedTensors tensors;
  std::set<int> layers;
  for (const Attachment& attachment : attachments) {
    const bool second = !settings.tied && attachment.positions.terms().front().kind == PositionTerm::Kind::suffix;
    for (const Site& site : attachment.sites) {
      layers.insert(*site.layer);
      const auto unit = detail::adapterhub_unit(*attachment.intervention);
      for (int u = 0; u < (settings.tied ? 1 : 2); ++u) {
        // The package always has both units; one without positions is written with the other's values.
        const bool own = settings.tied || (u == 1) == second, idle = (u == 0 ? settings.prefix : settings.suffix) == 0;
        if (!own && !idle) continue;
        for (const auto& [name, tensor] : unit) {
          tensors[fmt::format("{}{}.reft_layer.refts.{}.units.{}.{}", base.layers, *site.layer, detail::kAdapterHubName, u, name)] = tensor;
        }
      }
    }
  }
  const bool everywhere = static_cast<int64_t>(layers.size()) == num_layers;
  const nlohmann::json config{{"config",
                               {{"architecture", "reft"}, {"layers", everywhere ? nlohmann::json("all") : nlohmann::json(layers)},
                                {"r", settings.rank}, {"orthogonality", settings.orthogonal}, {"tied_weights", settings.tied},
                                {"prefix_positions", settings.prefix}, {"suffix_positions", settings.suffix}, {"dropout", settings.dropout},
                                {"non_linearity", settings.activation == "linear" ? nlohmann::json() : nlohmann::json(settings.activation)},
                                {"dtype", nullptr}, {"init_weights_seed", nullptr}, {"output_reft", true}}},
                              {"hidden_size", attachments.front().intervention->hidden_size()}, {"model_class", base.model_class},
                              {"model_name", ""}, {"model_type", base.model_type}, {"name", detail::kAdapterHubName}, {"version", "adapters.1.3.0"}};
  AtomicFolder written(folder, overwrite);
  save_torch_tensors(written.path() / detail::kAdapterHubTensors, tensors);
  write_file_atomically(written.path() / detail::kAdapterHubConfig, config.dump(2) + "\n");
  written.commit();
}

}  // namespace reft
