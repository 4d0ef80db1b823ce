#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "reft/checkpoint/any_adapter.hpp"
#include "reft/reft_model.hpp"
#include "support/command_line.hpp"

namespace reft::program {

/// "all", or layers joined by ';' or ','. Nothing stands for all.
/// @throws ConfigError.
inline std::optional<std::vector<int>> parse_layers(std::string_view text) {
  if (text == "all") return std::nullopt;
  std::vector<int> layers;
  for (std::size_t start = 0; start <= text.size();) {
    const auto end = std::min(text.find_first_of(";,", start), text.size());
    const auto layer = reft::detail::parse_integer<int>(text.substr(start, end - start));
    if (!layer || *layer < 0) fail<ConfigError>("parse_layers", "\"{}\": expected all, or layers joined by ';'", text);
    layers.push_back(*layer);
    start = end + 1;
  }
  return layers;
}

/// The flags that say what is attached where.
class InterventionFlags {
 public:
  /// @param may_be_none  whether --intervention none leaves the base as it is: there is a head to train alone.
  void add_to(CLI::App& app, bool may_be_none = false) {
    const char* group = "Interventions";
    const auto option = [&](const char* name, auto& value, const char* help) {
      CLI::Option* added = app.add_option(name, value, help)->capture_default_str()->group(group);
      options_.push_back(added);
      return added;
    };
    const std::string types = "loreft, noreft, direft, ortho_direft, consreft, lobireft, red or reft_r1";
    option("--intervention", type_, (may_be_none ? types + "; none trains the head alone" : types).c_str())
        ->check(checked_by([may_be_none](const std::string& name) {
          if (!(may_be_none && name == kNone)) make_intervention(name, 8);
        }));
    option("--layers", layers_, "all, or layers joined by ';' as in \"3;9\"")->check(checked_by([](const std::string& t) { parse_layers(t); }));
    option("--positions", positions_, "f<n>, l<n>, all, an index or a range, joined by '+'")
        ->check(checked_by([](const std::string& text) { Positions::parse(text); }));
    option("--tie", tie_, "who shares an intervention: all positions, each group, or no position")
        ->check(checked_by([](const std::string& text) { parse_tie(text); }));
    option("--rank", rank_, "dimension r of the edited subspace")->check(CLI::PositiveNumber);
    option("--start", start_, "random (as pyreft) or identity (at first the base's own states)")->check(CLI::IsMember({"random", "identity"}));
    option("--dropout", dropout_, "probability")->check(CLI::Range(0.0, 0.999));
    option("--dropout-on", dropout_on_, "state (the whole new hidden state, as pyreft) or edit")
        ->check(checked_by([](const std::string& text) { parse_dropout_on(text); }));
    option("--activation", activation_, "applied to W h + b")->check(checked_by([](const std::string& text) { activation_function(text); }));
    options_.push_back(app.add_flag("--projection-bias", projection_bias_, "a bias c in R h + c (noreft)")->group(group));
    option("--component", component_, "where in the layer")->check(checked_by([](const std::string& text) { parse_component(text); }));
    option("--phase", phase_, "prompt, decode or every; decode:8 and every:8 end after 8 decoding steps")->check(checked_by([](const std::string& text) { parse_phase(text); }));
    option("--token-ids", token_ids_, "act only where the token is one of these ids, \"13,30\"; none: on any")
        ->check(checked_by([](const std::string& text) { parse_tokens(text); }));
    option("--position-rule", position_rule_, "paper, pyreft or pyreft_shifted (as its supervised data set): how short prompts shrink the groups")
        ->check(checked_by([](const std::string& text) { parse_position_rule(text); }));
    CLI::Option* config = app.add_option("--config", config_,
                                         "JSON list of interventions, for layers that differ; keys as these flags, and learning_rate_scale")
                              ->group(group);
    app.add_option("--init-adapter", init_adapter_, "start from an adapter, with its whole configuration")->group(group)->excludes(config);
  }

  const std::string& init_adapter() const { return init_adapter_; }

  /// Used where a flag was not given.
  void set_defaults(std::string positions, std::string tie, int64_t rank) {
    set_default("--positions", positions_, std::move(positions));
    set_default("--tie", tie_, std::move(tie));
    set_default("--rank", rank_, rank);
  }
  void set_default_start(std::string start) { set_default("--start", start_, std::move(start)); }

  /// Attaches what the flags, the config file or the adapter say.
  /// @throws ConfigError for contradictions and for what the model does not have.
  template <class Base>
  void attach(ReftModel<Base>& model) const {
    if (!init_adapter_.empty()) {
      attach_adapter(model);
    } else if (!config_.empty()) {
      for (const CLI::Option* option : options_) {
        if (option->count() > 0) fail<ConfigError>("--config", "{} is given too; write it into the file", option->get_name());
      }
      attach_file(model);
    } else if (type_ != kNone) {
      attach_each(model, type_, parse_layers(layers_), where(), options());
    }
  }

 private:
  static constexpr const char* kNone = "none";

  template <class Value>
  void set_default(std::string_view name, Value& value, Value recipe) {
    const auto option = std::find_if(options_.begin(), options_.end(), [&](const CLI::Option* o) { return o->get_name() == name; });
    if ((*option)->count() > 0) return;
    value = std::move(recipe);
    (*option)->default_str(fmt::format("{}", value));
  }

  bool given(std::string_view name) const {
    return std::any_of(options_.begin(), options_.end(),
                       [&](const CLI::Option* option) { return option->get_name() == name && option->count() > 0; });
  }

  AttachOptions where() const {
    return {.component = parse_component(component_), .positions = positions_, .tie = parse_tie(tie_), .phase = parse_phase(phase_),
            .position_rule = parse_position_rule(position_rule_),
            .token_ids = token_ids_.empty() ? std::vector<int64_t>() : parse_tokens(token_ids_)};
  }

  /// What the flags say, without defaults that this kind of intervention has no place for: RED has no rank.
  nlohmann::json options() const {
    const nlohmann::json all{{"rank", rank_}, {"dropout", dropout_}, {"dropout_on", dropout_on_}, {"activation", activation_},
                             {"projection_bias", projection_bias_}};
    const nlohmann::json known = make_intervention(type_, 8)->options();
    nlohmann::json chosen = nlohmann::json::object();
    for (const auto& [key, value] : all.items()) {
      if (known.contains(key) || given(flag_of(key))) chosen[key] = value;
    }
    // Not an option that an intervention keeps. Forms that are not low-rank edits start as the identity anyway, or cannot.
    if (start_ == "identity" && (known.contains("dropout_on") || given("--start"))) chosen["identity_start"] = true;
    return chosen;
  }

  static std::string flag_of(std::string key) {
    std::replace(key.begin(), key.end(), '_', '-');
    return "--" + key;
  }

  template <class Base>
  void attach_adapter(ReftModel<Base>& model) const {
    switch (adapter_format(init_adapter_)) {
      case AdapterFormat::pyreft: return attach_pyreft(model);
      case AdapterFormat::reft: check_agreement(read_adapter_config(init_adapter_), static_cast<int>(model.base()->num_layers())); break;
      default: break;
    }
    load_any_adapter(model, init_adapter_, {.type = given("--intervention") ? type_ : ""});
  }

  /// What pyreft does not store comes from the flags; what it does store may not be given too, except the type, which
  /// not every folder tells.
  template <class Base>
  void attach_pyreft(ReftModel<Base>& model) const {
    for (const char* flag : {"--layers", "--rank", "--start", "--component", "--phase", "--token-ids", "--projection-bias"}) {
      if (given(flag)) fail<ConfigError>("--init-adapter", "{} is given too, but {} says it itself", flag, init_adapter_);
    }
    PyreftOptions pyreft{.positions = given("--positions") ? positions_ : "", .type = given("--intervention") ? type_ : "",
                         .activation = activation_, .dropout = dropout_, .dropout_on = parse_dropout_on(dropout_on_)};
    if (given("--tie")) pyreft.tie = parse_tie(tie_);
    if (given("--position-rule")) pyreft.position_rule = parse_position_rule(position_rule_);
    load_pyreft(model, init_adapter_, pyreft);
  }

  template <class Base>
  static void attach_each(ReftModel<Base>& model, const std::string& type, std::optional<std::vector<int>> layers,
                          AttachOptions where, const nlohmann::json& options) {
    if (is_layerless(where.component)) return model.attach(type, where, options);
    if (!layers) {
      layers.emplace();
      for (int layer = 0; layer < static_cast<int>(model.base()->num_layers()); ++layer) layers->push_back(layer);
    }
    for (const int layer : *layers) {
      where.layer = layer;
      model.attach(type, where, options);
    }
  }

  template <class Base>
  void attach_file(ReftModel<Base>& model) const {
    std::ifstream stream(config_);
    if (!stream) fail<ConfigError>("--config", "{}: no such file", config_);
    const auto json = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
    if (!json.is_array() || json.empty()) fail<ConfigError>("--config", "{}: expected a JSON list of interventions", config_);
    for (size_t i = 0; i < json.size(); ++i) {
      try {
        attach_entry(model, json[i]);
      } catch (const nlohmann::json::exception& error) {
        fail<ConfigError>("--config", "{}: entry {}: {}", config_, i, error.what());
      } catch (const Error& error) {
        fail<ConfigError>("--config", "{}: entry {}: {}", config_, i, error.what());
      }
    }
  }

  template <class Base>
  void attach_entry(ReftModel<Base>& model, nlohmann::json entry) const {
    const auto take = [&](const char* key, const std::string& fallback) {
      const std::string value = entry.value(key, fallback);
      entry.erase(key);
      return value;
    };
    const std::string type = take("type", type_);
    AttachOptions where{.component = parse_component(take("component", component_)), .positions = take("positions", positions_),
                        .tie = parse_tie(take("tie", tie_)), .phase = parse_phase(take("phase", phase_)),
                        .position_rule = parse_position_rule(take("position_rule", position_rule_))};
    if (entry.contains("token_ids")) where.token_ids = entry["token_ids"].get<std::vector<int64_t>>();
    entry.erase("token_ids");
    std::optional<std::vector<int>> layers;
    if (entry.contains("layers")) {
      layers = entry["layers"].is_string() ? parse_layers(entry["layers"].get<std::string>())
                                           : entry["layers"].get<std::vector<int>>();
      entry.erase("layers");
    }
    const double learning_rate_scale = entry.value("learning_rate_scale", 1.0);
    entry.erase("learning_rate_scale");
    if (entry.contains("head")) where.head = entry["head"].get<int>();
    entry.erase("head");
    const size_t first = model.interventions().interventions().size();
    attach_each(model, type, layers, where, entry);
    const auto interventions = model.interventions().interventions();
    for (size_t i = first; i < interventions.size(); ++i) interventions[i]->set_learning_rate_scale(learning_rate_scale);
  }

  /// A flag may repeat what the adapter says, not contradict it.
  void check_agreement(const AdapterConfig& adapter, int num_layers) const {
    const auto agree = [&](const char* flag, const std::string& value, const std::string& stored) {
      if (given(flag) && value != stored) {
        fail<ConfigError>("--init-adapter", "{} {} contradicts {}, where it is {}", flag, value, init_adapter_, stored);
      }
    };
    const nlohmann::json own_options = options();
    std::set<int> layers;
    for (const AdapterEntry& entry : adapter.interventions) {
      agree("--intervention", type_ == "nodireft" ? "direft" : type_, entry.type);
      agree("--positions", Positions::parse(positions_).text(), entry.expression);
      agree("--tie", tie_, std::string(to_string(entry.tie)));
      agree("--component", component_, std::string(to_string(entry.sites.front().component)));
      agree("--phase", phase_, std::string(to_string(entry.phase)));
      agree("--token-ids", token_ids_, fmt::format("{}", fmt::join(entry.token_ids, ",")));
      agree("--position-rule", position_rule_, std::string(to_string(entry.position_rule)));
      for (const auto& [key, value] : own_options.items()) {
        if (entry.options.contains(key)) agree(flag_of(key).c_str(), value.dump(), entry.options[key].dump());
      }
      for (const Site& site : entry.sites) {
        if (site.layer) layers.insert(*site.layer);
      }
    }
    const auto wanted = parse_layers(layers_);
    std::set<int> asked;
    for (int layer = 0; !wanted && layer < num_layers; ++layer) asked.insert(layer);
    if (wanted) asked.insert(wanted->begin(), wanted->end());
    agree("--layers", fmt::format("{}", fmt::join(asked, ";")), fmt::format("{}", fmt::join(layers, ";")));
  }

  std::string type_ = "loreft", layers_ = "all", positions_ = "f1+l1", tie_ = "group", dropout_on_ = "state", activation_ = "linear",
              component_ = "block_output", phase_ = "prompt", start_ = "random", position_rule_ = "paper", token_ids_, config_, init_adapter_;
  int64_t rank_ = 4;
  double dropout_ = 0.0;
  bool projection_bias_ = false;
  std::vector<CLI::Option*> options_;
};

}  // namespace reft::program
