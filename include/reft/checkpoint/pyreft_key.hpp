#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"
#include "reft/hook/site.hpp"

namespace reft {

// Note [Keys of pyreft]
// pyvene names an intervention, and the file intkey_<key>.bin, after its place. Three generations are about:
//   layer.8.repr.block_output.unit.pos.nunit.1#0     early January 2024
//   layer.8.comp.block_output.unit.pos.nunit.1#0     up to 0.1.6
//   layer_8_comp_block_output_unit_pos_nunit_1#0     0.1.7 and newer
// and where the user named a module, `comp.model.layers[8].output.unit…`, dots again replaced in the newest. The number
// behind # counts interventions of one place in the order of the configuration: with pyreft's "f2+l2", 0 is the prefix's
// and 1 the suffix's. All are read in their newest spelling, which is also the one that is written.

/// A place and a number there.
struct PyreftKey {
  Site site;
  int64_t index = 0;

  auto operator<=>(const PyreftKey&) const = default;
};

/// The newest spelling of a key of any generation.
inline std::string newest_pyreft_key(std::string key) {
  if (const auto at = key.find(".repr."); at != std::string::npos) key.replace(at, 6, ".comp.");
  for (char& character : key) {
    if (character == '.') character = '_';
  }
  return key;
}

/// "layer_8_comp_block_output_unit_pos_nunit_1#0".
/// @throws ConfigError for a place that pyvene has no name for.
inline std::string to_string(const PyreftKey& key) {
  if (!key.site.layer || key.site.head) {
    fail<ConfigError>("write_pyreft", "{}: pyreft has no name for this place; it holds interventions of whole layers' parts",
                      to_string(key.site));
  }
  return fmt::format("layer_{}_comp_{}_unit_pos_nunit_1#{}", *key.site.layer, to_string(key.site.component), key.index);
}

namespace detail {

/// The place that a module's path names, such as "model_layers[8]_mlp_output".
inline std::optional<Site> site_of_module(std::string_view path) {
  constexpr std::array<std::pair<std::string_view, Component>, 13> kModules{{{"output", Component::block_output},
                                                                             {"input", Component::block_input},
                                                                             {"mlp_output", Component::mlp_output},
                                                                             {"mlp_input", Component::mlp_input},
                                                                             {"mlp_act_fn_output", Component::mlp_activation},
                                                                             {"self_attn_output", Component::attention_output},
                                                                             {"self_attn_input", Component::attention_input},
                                                                             {"attn_output", Component::attention_output},
                                                                             {"attn_input", Component::attention_input},
                                                                             {"self_attn_o_proj_input", Component::attention_value_output},
                                                                             {"self_attn_q_proj_output", Component::query_output},
                                                                             {"self_attn_k_proj_output", Component::key_output},
                                                                             {"self_attn_v_proj_output", Component::value_output}}};
  const auto open = path.find('['), close = path.find("]_");
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return std::nullopt;
  const auto layer = parse_integer<int>(path.substr(open + 1, close - open - 1));
  for (const auto& [name, component] : kModules) {
    if (name == path.substr(close + 2) && layer && *layer >= 0) return Site{.layer = *layer, .component = component};
  }
  return std::nullopt;
}

/// The place that "layer_8_comp_block_output" or "comp_model_layers[8]_output" names.
inline std::optional<Site> site_of_pyreft_place(std::string_view place) {
  constexpr std::string_view kLayer = "layer_", kComponent = "comp_";
  if (place.starts_with(kComponent)) return site_of_module(place.substr(kComponent.size()));
  const auto middle = place.find("_comp_");
  if (!place.starts_with(kLayer) || middle == std::string_view::npos) return std::nullopt;
  const auto layer = parse_integer<int>(place.substr(kLayer.size(), middle - kLayer.size()));
  for (std::size_t i = 0; i < kComponentNames.size(); ++i) {
    const auto component = static_cast<Component>(i);
    const bool of_a_layer = !is_layerless(component) && component != Component::head_attention_value_output;
    if (of_a_layer && layer && *layer >= 0 && place.substr(middle + 6) == kComponentNames[i]) {
      return Site{.layer = *layer, .component = component};
    }
  }
  return std::nullopt;
}

}  // namespace detail

/// Reads a key of any generation.
/// @throws CheckpointError for a place that reft does not know, or units other than single positions.
inline PyreftKey parse_pyreft_key(std::string_view text) {
  const std::string key = newest_pyreft_key(std::string(text));
  constexpr std::string_view kUnit = "_unit_pos_nunit_1#";
  const auto unit = key.rfind(kUnit);
  if (unit == std::string::npos) {
    fail<CheckpointError>("read_pyreft", "{}: expected <place>_unit_pos_nunit_1#<number>, an intervention on single positions", text);
  }
  const auto site = detail::site_of_pyreft_place(std::string_view(key).substr(0, unit));
  const auto index = detail::parse_integer<int64_t>(std::string_view(key).substr(unit + kUnit.size()));
  if (!site || !index || *index < 0) fail<CheckpointError>("read_pyreft", "{}: it names no place that reft knows", text);
  return {*site, *index};
}

}  // namespace reft
