#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "reft/checkpoint/pyreft_format.hpp"
#include "reft/checkpoint/pyreft_key.hpp"
#include "reft/intervention/registry.hpp"
#include "reft/io/mapped_file.hpp"
#include "reft/io/torch_zip_torch.hpp"

namespace reft {

namespace detail {

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

/// The form with the same formula and a free projection; "" where there is none.
inline std::string_view free_form(std::string_view type) {
  return type == "loreft" ? "noreft" : type == "ortho_direft" ? "direft" : "";
}

/// @param type  what config.json says, or "".   @param wanted  what the caller says, or "".
inline std::shared_ptr<InterventionBase> read_pyreft_intervention(const std::filesystem::path& path, std::string_view type,
                                                                  std::string_view wanted, const PyreftOptions& options) {
  PyreftTensors tensors(path);
  if (type.empty()) type = tensors.type();
  if (type.empty()) type = wanted;
  if (type.empty()) {
    const bool is_free = tensors.contains("proj_layer.weight");
    refuse_pyreft(path, "without a config.json its tensors do not tell {}; say which, as in --intervention {}",
                  is_free ? "noreft from direft" : "consreft from lobireft", is_free ? "noreft" : "consreft");
  }
  if (!wanted.empty() && wanted != type && wanted != free_form(type)) refuse_pyreft(path, "it is a {}, not a {}", type, wanted);
  const NamedTensors state = tensors.state(type);
  if (!wanted.empty()) type = wanted;
  nlohmann::json made{{"rank", state.at("R").size(0)}, {"dropout", options.dropout}, {"dropout_on", to_string(options.dropout_on)},
                      {"projection_bias", state.contains("c")}, {"dtype", tensors.is_double() ? "float64" : "float32"}};
  if (state.contains("W")) made["activation"] = options.activation;
  try {
    const NoRandomStart blank;
    const auto intervention = make_intervention(type, state.at("R").size(1), made);  // refuses a rank before R is looked at
    if (!free_form(type).empty() && !is_orthonormal(state.at("R"))) {
      fail<CheckpointError>(type, "the rows of R are not orthonormal: |R Rᵀ - I| is up to {:.3g}, as after training that pyreft resumed; "
                            "{} is the same function with a free R: give that type, as in --intervention {}",
                            orthonormality_error(state.at("R")), free_form(type), free_form(type));
    }
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

}  // namespace detail

/// True for a folder with intkey_*.bin files, or a trainer's checkpoint around one.
inline bool is_pyreft_folder(const std::filesystem::path& folder) {
  return !detail::find_pyreft_files(detail::pyreft_folder(folder)).empty();
}

/// What pyreft's trainer saved of the base, by name: a classification head; empty where nothing of it was trained.
/// @throws CheckpointError for a damaged file.
inline std::map<std::string, torch::Tensor> read_pyreft_head(const std::filesystem::path& outer) {
  const auto path = detail::pyreft_folder(outer) / "pytorch_model.bin";
  return std::filesystem::exists(path) ? load_torch_tensors(path) : std::map<std::string, torch::Tensor>{};
}

/// The interventions of a pyreft folder, in its order; see Note [pyreft folders].
/// @throws CheckpointError for missing, damaged or hostile files, classes or places that reft does not know, and an R that
///   is not orthonormal where it should be (pyreft does not keep it so in training that was resumed), unless
///   `options.type` asks for the form with a free projection.
inline std::vector<PyreftIntervention> read_pyreft(const std::filesystem::path& outer, const PyreftOptions& options = {}) {
  const auto folder = detail::pyreft_folder(outer);
  auto files = detail::find_pyreft_files(folder);
  if (files.empty()) detail::refuse_pyreft(folder, "expected a pyreft folder, but it has no intkey_*.bin");
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
    if (!keys.insert(parse_pyreft_key(key)).second) detail::refuse_pyreft(folder, "another intervention has the place and number of {}", key);
    interventions.push_back({parse_pyreft_key(key), detail::read_pyreft_intervention(file.mapped(), type, wanted, options)});
  }
  if (!files.empty()) detail::refuse_pyreft(folder, "config.json does not know {}", files.begin()->second.filename().string());
  return interventions;
}

}  // namespace reft
