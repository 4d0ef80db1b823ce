#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "reft/checkpoint/trained_head.hpp"
#include "reft/io/atomic_file.hpp"
#include "reft/io/safetensors_torch.hpp"
#include "reft/reft_model.hpp"
#include "reft/version.hpp"

namespace reft {

// Note [Adapter folder]
// adapter_config.json says what acts where, for people and programs; adapter_model.safetensors holds the values, named
// "interventions.<i>.<R, W, b, …>" by the place in the config's list, and a head trained with them, "head.<name>" by its
// name in a Hugging Face file. The config names the content hash of the tensors,
// so two files that do not belong together are noticed. Both are written to temporary names and renamed, the tensors
// first: whoever finds the new config finds its tensors.

inline constexpr const char* kAdapterConfigName = "adapter_config.json";
inline constexpr const char* kAdapterTensorsName = "adapter_model.safetensors";
inline constexpr int kAdapterFormatVersion = 2;

/// What an adapter remembers beside its interventions.
struct AdapterInfo {
  std::string base_model;       ///< name or folder of the base it was trained on
  std::string prompt_template;  ///< the wording it was trained with, "alpaca"
  bool has_head = false;        ///< the base's head belongs to the adapter, as it does where the model trains it
  std::vector<std::string> labels = {};  ///< names of a classifier's classes
};

/// One entry of adapter_config.json, read and checked on its own.
struct AdapterEntry {
  std::string type;
  nlohmann::json options;  // what `make_intervention` reads
  std::vector<Site> sites;
  Positions positions = Positions::parse("all");
  PositionRule position_rule = PositionRule::paper;
  Phase phase = Phase::prompt;
  std::string expression;  // of all that were attached together
  Tie tie = Tie::all;
  std::vector<int64_t> token_ids;
};

struct AdapterConfig {
  AdapterInfo info;
  int64_t num_layers = 0, hidden_size = 0;  // of the base
  std::vector<AdapterEntry> interventions;
  std::string content_hash;
};

namespace detail {

/// adapter_config.json at some place, for error texts: "adapter_config.json: interventions[3].phase".
template <class... Args>
[[noreturn]] void refuse_adapter(fmt::format_string<Args...> message, Args&&... args) {
  fail<CheckpointError>("load_adapter", "{}: {}", kAdapterConfigName, fmt::format(message, std::forward<Args>(args)...));
}

template <class T>
T adapter_value(const nlohmann::json& json, const std::string& place, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) refuse_adapter("{}{} is missing", place, key);
  try {
    return found->get<T>();
  } catch (const nlohmann::json::exception&) {
    refuse_adapter("{}{} = {} is not of the expected type", place, key, found->dump());
  }
}

inline AdapterEntry read_adapter_entry(const nlohmann::json& json, size_t index) {
  const std::string place = fmt::format("interventions[{}].", index);
  if (!json.is_object()) refuse_adapter("interventions[{}] is not an object", index);
  const auto text = [&](const char* key) { return adapter_value<std::string>(json, place, key); };
  AdapterEntry entry;
  try {
    entry.type = text("type");
    for (const std::string& site : adapter_value<std::vector<std::string>>(json, place, "sites")) entry.sites.push_back(parse_site(site));
    entry.positions = Positions::parse(text("positions"));
    entry.position_rule = parse_position_rule(text("position_rule"));
    entry.phase = parse_phase(text("phase"));
    entry.expression = text("position_expression");
    entry.tie = parse_tie(text("tie"));
  } catch (const ConfigError& error) {
    refuse_adapter("interventions[{}]: {}", index, error.what());
  }
  if (entry.sites.empty()) refuse_adapter("{}sites is empty", place);
  if (json.contains("token_ids")) entry.token_ids = adapter_value<std::vector<int64_t>>(json, place, "token_ids");
  static const std::set<std::string> own{"type", "sites", "positions", "position_rule", "phase", "position_expression", "tie", "token_ids"};
  entry.options = nlohmann::json::object();
  for (const auto& [key, value] : json.items()) {
    if (!own.contains(key)) entry.options[key] = value;
  }
  return entry;
}

inline nlohmann::ordered_json write_adapter_entry(const Attachment& attachment) {
  nlohmann::ordered_json json{{"type", attachment.intervention->type()}};
  const nlohmann::json options = attachment.intervention->options();
  for (const auto& [key, value] : options.items()) json[key] = value;
  std::vector<std::string> sites;
  for (const Site& site : attachment.sites) sites.push_back(to_string(site));
  json["sites"] = sites;
  json["positions"] = attachment.positions.text();
  json["position_rule"] = to_string(attachment.position_rule);
  json["phase"] = to_string(attachment.phase);
  json["position_expression"] = attachment.expression;
  json["tie"] = to_string(attachment.tie);
  if (!attachment.token_ids.empty()) json["token_ids"] = attachment.token_ids;
  return json;
}

inline constexpr std::string_view kHeadPrefix = "head.";

inline std::string tensor_prefix(size_t index) { return fmt::format("interventions.{}.", index); }

}  // namespace detail

/// @throws CheckpointError for a missing or malformed file, or a format newer than this library's.
inline AdapterConfig read_adapter_config(const std::filesystem::path& folder) {
  const auto path = folder / kAdapterConfigName;
  const auto file = MappedFile::open(path);
  const auto json = nlohmann::json::parse(file->text(), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail<CheckpointError>("load_adapter", "{}: expected a JSON object", path.string());
  const int version = detail::adapter_value<int>(json, "", "format_version");
  if (version != kAdapterFormatVersion) {
    detail::refuse_adapter("format_version = {}, but this is reft {}, which reads version {}", version, kVersion, kAdapterFormatVersion);
  }
  AdapterConfig config;
  const auto base = detail::adapter_value<nlohmann::json>(json, "", "base_model");
  config.info.base_model = detail::adapter_value<std::string>(base, "base_model.", "name");
  config.num_layers = detail::adapter_value<int64_t>(base, "base_model.", "num_layers");
  config.hidden_size = detail::adapter_value<int64_t>(base, "base_model.", "hidden_size");
  config.info.prompt_template = detail::adapter_value<std::string>(json, "", "prompt_template");
  if (json.contains("labels")) config.info.labels = detail::adapter_value<std::vector<std::string>>(json, "", "labels");
  config.content_hash = detail::adapter_value<std::string>(json, "", "content_hash");
  const auto entries = detail::adapter_value<std::vector<nlohmann::json>>(json, "", "interventions");
  for (size_t i = 0; i < entries.size(); ++i) config.interventions.push_back(detail::read_adapter_entry(entries[i], i));
  return config;
}

/// Writes the interventions of `model` into a folder, which is made if it is missing; see Note [Adapter folder].
/// Other files there stay.   @throws ConfigError if an adapter is there and `overwrite` is false, or if some R is no
/// longer orthonormal; Error if the folder cannot be written.
template <class Base>
void save_adapter(const ReftModel<Base>& model, const std::filesystem::path& folder, const AdapterInfo& info = {},
                  bool overwrite = false) {
  if (!overwrite && std::filesystem::exists(folder / kAdapterConfigName)) {
    fail<ConfigError>("save_adapter", "{}: an adapter is there already; choose another folder, or overwrite it", folder.string());
  }
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::vector<nlohmann::ordered_json> entries;
  for (const Attachment& attachment : model.interventions().attachments()) {
    for (const auto& [name, tensor] : attachment.intervention->state()) {
      if (name == "R" && attachment.intervention->orthonormal() && !(orthonormality_error(tensor) < 1e-3)) {
        fail<ConfigError>("save_adapter", "intervention {}: the rows of R are not orthonormal: |R Rᵀ - I| is up to {:.3g}",
                          entries.size(), orthonormality_error(tensor));
      }
      tensors.emplace_back(detail::tensor_prefix(entries.size()) + name, tensor);
    }
    entries.push_back(detail::write_adapter_entry(attachment));
  }
  if (info.has_head || model.trains_head()) {
    for (const auto& [name, tensor] : head_tensors(model.base())) tensors.emplace_back(std::string(detail::kHeadPrefix) + name, tensor);
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) fail<Error>("save_adapter", "{}: cannot create the folder: {}", folder.string(), error.message());
  const std::string hash = save_tensors(folder / kAdapterTensorsName, tensors, {{"format", "reft"}});
  nlohmann::ordered_json config{
      {"format", "reft"},
      {"format_version", kAdapterFormatVersion},
      {"library_version", kVersion},
      {"base_model", {{"name", info.base_model}, {"num_layers", model.base()->num_layers()}, {"hidden_size", model.hidden_size()}}},
      {"prompt_template", info.prompt_template},
      {"content_hash", hash},
      {"interventions", entries}};
  if (!info.labels.empty()) config["labels"] = info.labels;
  // A base's name may be a path, which need not be UTF-8.
  write_file_atomically(folder / kAdapterConfigName, config.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

/// The head that was saved with an adapter, by name; valid as long as the file.
inline std::map<std::string, torch::Tensor> read_adapter_head(const SafetensorsFile& file) {
  std::map<std::string, torch::Tensor> head;
  for (const auto& [name, view] : file.tensors()) {
    if (name.starts_with(detail::kHeadPrefix)) head[name.substr(detail::kHeadPrefix.size())] = as_tensor(view);
  }
  return head;
}

/// Attaches the interventions of a folder that `save_adapter` wrote, and fills the base's head if one was saved with them.
/// @return what the adapter remembers of its base.
/// @throws CheckpointError for missing, damaged or mismatched files, or an adapter of another base; ConfigError where its
///   positions overlap those of an edit the model has. The model is then as it was.
template <class Base>
AdapterInfo load_adapter(ReftModel<Base>& model, const std::filesystem::path& folder) {
  const AdapterConfig config = read_adapter_config(folder);
  const SafetensorsFile file = SafetensorsFile::open(folder / kAdapterTensorsName);
  verify_content_hash(file);
  if (file.metadata().at("content_hash") != config.content_hash) {
    fail<CheckpointError>("load_adapter", "{}: {} and {} were not written together", folder.string(), kAdapterConfigName, kAdapterTensorsName);
  }
  const int64_t num_layers = model.base()->num_layers();
  for (size_t i = 0; i < config.interventions.size(); ++i) {
    for (const Site& site : config.interventions[i].sites) {
      if (!site.layer || *site.layer < num_layers) continue;
      detail::refuse_adapter("interventions[{}].layer = {}, but the model has {} layers (0..{})", i, *site.layer, num_layers, num_layers - 1);
    }
  }
  if (config.num_layers != num_layers || config.hidden_size != model.hidden_size()) {
    detail::refuse_adapter("the adapter is of a base with {} layers of width {}, but the model has {} of width {}", config.num_layers,
                           config.hidden_size, num_layers, model.hidden_size());
  }
  std::vector<Attachment> attachments;
  std::set<std::string> used;
  const auto head = read_adapter_head(file);
  for (const auto& [name, tensor] : head) used.insert(std::string(detail::kHeadPrefix) + name);
  if (!head.empty()) check_head(model.base(), head, folder);
  for (size_t i = 0; i < config.interventions.size(); ++i) {
    const AdapterEntry& entry = config.interventions[i];
    std::map<std::string, torch::Tensor> tensors;
    const std::string prefix = detail::tensor_prefix(i);
    for (const auto& [name, view] : file.tensors()) {
      if (!name.starts_with(prefix)) continue;
      tensors[name.substr(prefix.size())] = as_tensor(view);
      used.insert(name);
    }
    try {
      const auto intervention = load_intervention(entry.type, model.base()->width(entry.sites.front()), entry.options, tensors);
      attachments.push_back({intervention, entry.sites, entry.positions, entry.phase, entry.position_rule, entry.expression, entry.tie,
                             entry.token_ids});
    } catch (const Error& error) {
      detail::refuse_adapter("interventions[{}]: {}", i, error.what());
    }
  }
  for (const auto& [name, view] : file.tensors()) {
    if (!used.contains(name)) detail::refuse_adapter("tensor {} belongs to none of its {} interventions", name, config.interventions.size());
  }
  model.attach(std::move(attachments));
  if (!head.empty()) fill_head(model.base(), head);
  AdapterInfo info = config.info;
  info.has_head = !head.empty();
  return info;
}

}  // namespace reft
