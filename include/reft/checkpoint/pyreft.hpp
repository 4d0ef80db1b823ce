#pragma once

#include <ATen/ops/linalg_householder_product.h>
#include <ATen/ops/linalg_matrix_exp.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reft/checkpoint/adapter.hpp"
#include "reft/checkpoint/pyreft_key.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/torch_zip_torch.hpp"
#include "reft/reft_model.hpp"
#include "reft/tensor/householder.hpp"

namespace reft {

// Note [pyreft folders]
// config.json lists the interventions: place, unit and rank as a row of 13 or 14 fields, and the class. The values of
// each are in intkey_<key>.bin, a torch.save file; Note [Keys of pyreft], Note [torch.save]. LoReFT's holds the evaluated
// R; the other orthonormal classes hold what torch's parametrization is made of, `original` X (D, r) and `base` B (D, D).
// A trainer leaves the .bin files alone, and pytorch_model.bin with whatever was trained of the base.
// Nowhere stored: positions, which modules share, activation, dropout, the base. Whoever loads a folder gives them.
// pyreft keeps R as (D, r), our R transposed. Ref: pyreft 0.1.0 interventions.py; pyvene 0.1.8 intervenable_base.py.

/// What a pyreft folder does not say.
struct PyreftOptions {
  std::string positions = {};             ///< "f5+l5"; needed to attach, not to read
  std::optional<Tie> tie = {};            ///< nothing: `all` or `group`, whichever fits the number of interventions
  std::string type = {};                  ///< "consreft", …; needed where no config.json tells classes of equal tensors apart
  std::string activation = "linear";      ///< applied to W h + b
  double dropout = 0.0;
  PositionRule position_rule = PositionRule::pyreft;
};

/// One intervention of a pyreft folder: where it is, and what it does.
struct PyreftIntervention {
  PyreftKey key;
  std::shared_ptr<InterventionBase> intervention;
};

namespace detail {

inline constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kPyreftClasses{{{"loreft", "LoreftIntervention"},
                                                                                              {"noreft", "NoreftIntervention"},
                                                                                              {"direft", "NodireftIntervention"},
                                                                                              {"ortho_direft", "DireftIntervention"},
                                                                                              {"consreft", "ConsreftIntervention"},
                                                                                              {"lobireft", "LobireftIntervention"}}};

inline constexpr const char* kPyreftOriginal = "rotate_layer.parametrizations.weight.original";
inline constexpr const char* kPyreftBase = "rotate_layer.parametrizations.weight.0.base";

using NamedTensors = std::map<std::string, torch::Tensor>;

template <class... Args>
[[noreturn]] void refuse_pyreft(const std::filesystem::path& path, fmt::format_string<Args...> message, Args&&... args) {
  fail<CheckpointError>("read_pyreft", "{}: {}", path.string(), fmt::format(message, std::forward<Args>(args)...));
}

/// R of torch.nn.utils.parametrizations.orthogonal, from what it stores.
///   r < D: R = B (H_1 ⋯ H_r)[:, :r] diag(trunc X_jj),   H_j = I − τ_j v_j v_jᵀ,  v_j = e_j + X[j+1:, j],  τ_j = 2/|v_j|²
///   r = D: R = B exp(tril X − (tril X)ᵀ)
/// @param X (D, r).   @param B (D, D).   @return (D, r).
inline torch::Tensor evaluate_orthogonal(const torch::Tensor& X, const torch::Tensor& B) {
  const torch::Tensor base = B.to(torch::kFloat64), lower = X.to(torch::kFloat64).tril(-1);
  if (X.size(0) == X.size(1)) return base.matmul(at::linalg_matrix_exp(lower - lower.t())).to(torch::kFloat32);
  const torch::Tensor tau = 2.0 / (1.0 + lower.square().sum(0));
  const torch::Tensor signs = X.diagonal().trunc();
  return base.matmul(at::linalg_householder_product(lower, tau) * signs).to(torch::kFloat32);
}

/// What torch's parametrization starts from at R, with the base reft trains about.
/// @param R (r, D).   @return original (D, r), −1 on the diagonal and 0 elsewhere, and base (D, D), whose first r columns are R.
inline std::pair<torch::Tensor, torch::Tensor> orthogonal_start(const torch::Tensor& R) {
  torch::Tensor base = dense(orthogonal_base(R));
  base.narrow(1, 0, R.size(0)).copy_(R.t());
  return {-torch::eye(R.size(1), R.size(0), R.options()), base};
}

// READING

/// The tensors of one .bin file, taken out by name so that none is overlooked.
class PyreftTensors {
 public:
  explicit PyreftTensors(std::filesystem::path path) : path_(std::move(path)), tensors_(load_torch_tensors(path_)) {
    tensors_.erase("embed_dim");
    tensors_.erase("interchange_dim");
  }

  bool contains(const std::string& name) const { return tensors_.contains(name); }

  torch::Tensor take(const std::string& name, int64_t dimensions) {
    const auto node = tensors_.extract(name);
    if (node.empty()) refuse_pyreft(path_, "tensor {} is missing", name);
    if (node.mapped().dim() != dimensions || !node.mapped().is_floating_point()) {
      refuse_pyreft(path_, "tensor {}: expected {} dimensions of floats, got {} of {}", name, dimensions, c10::str(node.mapped().sizes()),
                    c10::toString(node.mapped().scalar_type()));
    }
    is_double_ |= node.mapped().scalar_type() == torch::kFloat64;
    return node.mapped();
  }

  /// The one type whose tensors these are; nothing where two classes have the same.
  std::string_view type() const {
    if (contains("rotate_layer")) return "loreft";
    if (contains(kPyreftOriginal) && contains("learned_source.weight")) return "ortho_direft";
    return "";
  }

  /// R (r, D), W (r, D), b (r) and c (r), as the type has them.
  NamedTensors state(std::string_view type) {
    NamedTensors state;
    if (type == "loreft") {
      state = {{"R", take("rotate_layer", 2).t()}, {"W", take("weight", 2)}, {"b", take("bias", 1)}};
    } else if (type == "consreft" || type == "lobireft") {
      state = {{"R", take_orthogonal()}, {"b", take("learned_source", 1)}};
    } else {
      const bool free = type != "ortho_direft";
      state = {{"R", free ? take("proj_layer.weight", 2) : take_orthogonal()},
               {"W", take("learned_source.weight", 2)},
               {"b", take("learned_source.bias", 1)}};
      // Nodireft has a c that its formula never uses.
      if (free && contains("proj_layer.bias")) state["c"] = take("proj_layer.bias", 1);
      if (type == "direft") state.erase("c");
    }
    if (!tensors_.empty()) refuse_pyreft(path_, "tensor {} has no place in a {}", tensors_.begin()->first, type);
    return state;
  }

  bool is_double() const { return is_double_; }

 private:
  torch::Tensor take_orthogonal() {
    const torch::Tensor X = take(kPyreftOriginal, 2), B = take(kPyreftBase, 2);
    if (X.size(0) < X.size(1) || B.size(0) != B.size(1) || B.size(0) != X.size(0)) {
      refuse_pyreft(path_, "expected {} (D, r) and {} (D, D), got {} and {}", kPyreftOriginal, kPyreftBase, c10::str(X.sizes()),
                    c10::str(B.sizes()));
    }
    return evaluate_orthogonal(X, B).t();
  }

  std::filesystem::path path_;
  NamedTensors tensors_;
  bool is_double_ = false;
};

inline std::shared_ptr<InterventionBase> read_pyreft_intervention(const std::filesystem::path& path, std::string_view type,
                                                                  const PyreftOptions& options) {
  PyreftTensors tensors(path);
  if (type.empty()) type = tensors.type();
  if (type.empty()) {
    refuse_pyreft(path, "without a config.json its tensors do not tell {}; say which",
                  tensors.contains("proj_layer.weight") ? "noreft from direft" : "consreft from lobireft");
  }
  const NamedTensors state = tensors.state(type);
  nlohmann::json made{{"rank", state.at("R").size(0)}, {"dropout", options.dropout}, {"projection_bias", state.contains("c")},
                      {"dtype", tensors.is_double() ? "float64" : "float32"}};
  if (state.contains("W")) made["activation"] = options.activation;
  try {
    auto intervention = make_intervention(type, state.at("R").size(1), made);
    intervention->load_state(state);
    return intervention;
  } catch (const ConfigError& error) {
    refuse_pyreft(path, "{}", error.what());
  } catch (const CheckpointError& error) {
    refuse_pyreft(path, "{}", error.what());
  }
}

/// A key in its newest spelling and reft's name of the class; "" where no config.json says it.
struct PyreftRow {
  std::string key, type;
};

/// One row of config.json, as a list or with names; every field after the rank must be unused.
class PyreftRowReader {
 public:
  PyreftRowReader(const std::filesystem::path& config, const nlohmann::json& row, std::size_t number)
      : config_(config), row_(row), number_(number) {
    if (!row.is_object() && !(row.is_array() && (row.size() == 13 || row.size() == 14))) {
      refuse_pyreft(config, "representations[{}]: expected a list of 13 or 14 fields", number);
    }
    for (std::size_t i = 5; i < kFields.size(); ++i) {
      const nlohmann::json value = field(i);
      if (!value.is_null() && value != false) refuse("{} = {}: expected null, reft does not know it", kFields[i], value.dump());
    }
  }

  /// The key without its number.
  std::string place() const {
    const nlohmann::json component = field(1), unit = field(2), count = field(3);
    if (!component.is_string() || unit != "pos" || count != 1) {
      refuse("expected a component on single positions, got {} of {} times {}", component.dump(), count.dump(), unit.dump());
    }
    const auto name = component.get<std::string>();
    if (name.find('.') != std::string::npos) return newest_pyreft_key(fmt::format("comp.{}.unit.pos.nunit.1", name));
    if (!field(0).is_number_unsigned()) refuse("layer = {}", field(0).dump());
    return fmt::format("layer_{}_comp_{}_unit_pos_nunit_1", field(0).dump(), name);
  }

 private:
  static constexpr std::array<const char*, 14> kFields{
      "layer", "component", "unit", "max_number_of_units", "low_rank_dimension", "intervention_type", "intervention", "subspace_partition",
      "group_key", "intervention_link_key", "moe_key", "source_representation", "hidden_source_representation", "latent_dim"};

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> message, Args&&... args) const {
    refuse_pyreft(config_, "representations[{}]: {}", number_, fmt::format(message, std::forward<Args>(args)...));
  }

  nlohmann::json field(std::size_t i) const {
    if (row_.is_object()) return row_.value(kFields[i], nlohmann::json());
    return i < row_.size() ? row_[i] : nlohmann::json();
  }

  const std::filesystem::path& config_;
  const nlohmann::json& row_;
  std::size_t number_;
};

/// "<class 'pyreft.interventions.LoreftIntervention'>" as reft's name.
inline std::string pyreft_type(const std::filesystem::path& config, const nlohmann::json& text) {
  std::string name = text.is_string() ? text.get<std::string>() : text.dump();
  if (name.ends_with("'>")) name.resize(name.size() - 2);
  const auto dot = name.rfind('.');
  for (const auto& [type, class_name] : kPyreftClasses) {
    if (dot != std::string::npos && name.substr(dot + 1) == class_name) return std::string(type);
  }
  refuse_pyreft(config, "intervention type {}: expected one of pyreft's six classes", text.dump());
}

inline std::vector<PyreftRow> read_pyreft_config(const std::filesystem::path& path) {
  const auto json = nlohmann::json::parse(MappedFile::open(path)->text(), nullptr, /*allow_exceptions=*/false);
  const auto list = [&](const char* name) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_array()) refuse_pyreft(path, "expected a list \"{}\"", name);
    return json[name];
  };
  const auto representations = list("representations"), types = list("intervention_types");
  if (representations.size() != types.size()) {
    refuse_pyreft(path, "{} representations, but {} intervention_types", representations.size(), types.size());
  }
  std::vector<PyreftRow> rows;
  std::map<std::string, int> counts;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const std::string place = PyreftRowReader(path, representations[i], i).place();
    rows.push_back({fmt::format("{}#{}", place, counts[place]++), pyreft_type(path, types[i])});
  }
  return rows;
}

/// The .bin file of every key, in its newest spelling.
inline std::map<std::string, std::filesystem::path> find_pyreft_files(const std::filesystem::path& folder) {
  constexpr std::string_view kBegin = "intkey_", kEnd = ".bin";
  std::map<std::string, std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kBegin) || !name.ends_with(kEnd)) continue;
    const std::string key = name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size());
    if (!files.emplace(newest_pyreft_key(key), entry.path()).second) refuse_pyreft(folder, "two files hold {}", newest_pyreft_key(key));
  }
  return files;
}

/// A trainer's checkpoint holds the folder under this name.
inline std::filesystem::path pyreft_folder(const std::filesystem::path& folder) {
  const auto inner = folder / "intervenable_model";
  return find_pyreft_files(folder).empty() && std::filesystem::is_directory(inner) ? inner : folder;
}

/// What was trained of the base is not read; leaving it out in silence would give another function.
inline void check_base_untouched(const std::filesystem::path& folder) {
  const auto path = folder / "pytorch_model.bin";
  if (!std::filesystem::exists(path)) return;
  const TorchZipFile file = TorchZipFile::open(path);
  if (!file.tensors().empty()) {
    refuse_pyreft(path, "it holds {} trained tensors of the base ({}, …), which cannot be loaded yet", file.tensors().size(),
                  file.tensors().begin()->first);
  }
}

}  // namespace detail

/// True for a folder with intkey_*.bin files, or a trainer's checkpoint around one.
inline bool is_pyreft_folder(const std::filesystem::path& folder) {
  return !detail::find_pyreft_files(detail::pyreft_folder(folder)).empty();
}

/// The interventions of a pyreft folder, in its order; see Note [pyreft folders].
/// @throws CheckpointError for missing, damaged or hostile files, classes or places that reft does not know, and an R that
///   is not orthonormal where it should be (pyreft does not keep it so in training that was resumed).
inline std::vector<PyreftIntervention> read_pyreft(const std::filesystem::path& outer, const PyreftOptions& options = {}) {
  const auto folder = detail::pyreft_folder(outer);
  auto files = detail::find_pyreft_files(folder);
  if (files.empty()) detail::refuse_pyreft(folder, "expected a pyreft folder, but it has no intkey_*.bin");
  detail::check_base_untouched(folder);
  std::vector<detail::PyreftRow> rows;
  if (std::filesystem::exists(folder / "config.json")) {
    rows = detail::read_pyreft_config(folder / "config.json");
  } else {
    for (const auto& [key, path] : files) rows.push_back({key, ""});
  }
  std::vector<PyreftIntervention> interventions;
  std::set<PyreftKey> keys;
  for (const auto& [key, type] : rows) {
    const auto file = files.extract(key);
    if (file.empty()) detail::refuse_pyreft(folder, "intkey_{}.bin is missing, in any spelling", key);
    const std::string wanted = options.type == "nodireft" ? "direft" : options.type;
    if (!wanted.empty() && !type.empty() && wanted != type) detail::refuse_pyreft(folder, "{} is a {}, not a {}", key, type, wanted);
    if (!keys.insert(parse_pyreft_key(key)).second) detail::refuse_pyreft(folder, "another intervention has the place and number of {}", key);
    interventions.push_back({parse_pyreft_key(key), detail::read_pyreft_intervention(file.mapped(), type.empty() ? wanted : type, options)});
  }
  if (!files.empty()) detail::refuse_pyreft(folder, "config.json does not know {}", files.begin()->second.filename().string());
  return interventions;
}

namespace detail {

/// Gives the interventions of one site their parts of the expression: the k-th has the k-th part.
inline std::vector<Attachment> attach_pyreft_site(const std::filesystem::path& folder, const std::vector<PyreftIntervention>& here,
                                                  const PyreftOptions& options) {
  const Positions positions = Positions::parse(options.positions);
  const Tie tie = options.tie.value_or(here.size() == 1 ? Tie::all : Tie::group);
  const std::vector<Positions> parts = positions.split(tie);
  if (parts.size() != here.size()) {
    fail<ConfigError>("load_pyreft", "{}: {} has {} interventions, but positions {} tied by {} want {}", folder.string(),
                      to_string(here.front().key.site), here.size(), positions.text(), to_string(tie), parts.size());
  }
  std::vector<Attachment> attachments;
  for (std::size_t k = 0; k < here.size(); ++k) {
    attachments.push_back({here[k].intervention, {here[k].key.site}, parts[k], Phase::prompt, options.position_rule, positions.text(), tie});
  }
  return attachments;
}

}  // namespace detail

/// Attaches the interventions of a pyreft folder, acting on the prompt as pyreft's scripts have them.
/// @throws ConfigError without positions, or where they do not fit the number of interventions of a site; CheckpointError
///   as `read_pyreft`, or for a layer or width the base does not have. The model is then as it was.
template <class Base>
void load_pyreft(ReftModel<Base>& model, const std::filesystem::path& folder, const PyreftOptions& options) {
  if (options.positions.empty()) {
    fail<ConfigError>("load_pyreft", "{}: a pyreft folder does not say where it acts; give the positions, as in --positions f1+l1", folder.string());
  }
  std::map<Site, std::vector<PyreftIntervention>> sites;
  for (const PyreftIntervention& found : read_pyreft(folder, options)) {
    const Site& site = found.key.site;
    if (*site.layer >= model.base()->num_layers()) {
      detail::refuse_pyreft(folder, "{}: the model has {} layers (0..{})", to_string(site), model.base()->num_layers(), model.base()->num_layers() - 1);
    }
    if (const int64_t width = model.base()->width(site); width != found.intervention->hidden_size()) {
      detail::refuse_pyreft(folder, "{}: it is of a base {} wide there, but the model is {} wide", to_string(site), found.intervention->hidden_size(), width);
    }
    sites[site].push_back(found);
  }
  std::vector<Attachment> attachments;
  for (auto& [site, here] : sites) {
    std::sort(here.begin(), here.end(), [](const auto& a, const auto& b) { return a.key.index < b.key.index; });
    for (Attachment& attachment : detail::attach_pyreft_site(folder, here, options)) attachments.push_back(std::move(attachment));
  }
  for (const Attachment& attachment : attachments) model.interventions().check(attachment);
  for (Attachment& attachment : attachments) model.attach(std::move(attachment));
}

// WRITING

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
    if (attachment.position_rule != PositionRule::pyreft) add("position rule paper: pyreft shortens suffixes of odd short prompts by one more");
    if (attachment.phase != Phase::prompt) add(fmt::format("phase {}: pass it to pyreft's generate", to_string(attachment.phase)));
    if (options.value("activation", "linear") != "linear") add(fmt::format("activation {}", options["activation"].get<std::string>()));
    if (options.value("dropout", 0.0) > 0) add(fmt::format("dropout {}", options["dropout"].get<double>()));
    if (attachment.sites.size() > 1) add("sharing across sites: each site has a copy");
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
/// @throws ConfigError if there is nothing to write, or the folder is not empty and `overwrite` is false.
inline void write_pyreft(const std::vector<PyreftIntervention>& interventions, const std::filesystem::path& folder, bool overwrite = false) {
  if (interventions.empty()) fail<ConfigError>("write_pyreft", "{}: there is no intervention to write", folder.string());
  AtomicFolder written(folder, overwrite);
  for (const auto& [key, intervention] : interventions) {
    save_torch_tensors(written.path() / fmt::format("intkey_{}.bin", to_string(key)), detail::pyreft_state_dict(*intervention));
  }
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
