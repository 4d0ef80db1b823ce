#pragma once

#include <array>
#include <compare>
#include <optional>
#include <string>
#include <string_view>

#include "reft/error.hpp"
#include "reft/hook/parse_integer.hpp"

namespace reft {

/// Where in a transformer a hidden state is read or edited; the names are pyvene's.
/// `attention_output` and `mlp_output` stand before any post-norm; `block_output` is what the layer returns.
enum class Component {
  block_input,
  block_output,
  attention_input,
  attention_output,
  attention_value_output,       // the heads' mixed values, concatenated: input of the output projection
  head_attention_value_output,  // one head's columns of attention_value_output
  mlp_input,
  mlp_activation,
  mlp_output,
  query_output,
  key_output,
  value_output,
  embedding_output,
  final_norm_output,
  logits,
};

namespace detail {

inline constexpr std::array<std::string_view, 15> kComponentNames = {
    "block_input",
    "block_output",
    "attention_input",
    "attention_output",
    "attention_value_output",
    "head_attention_value_output",
    "mlp_input",
    "mlp_activation",
    "mlp_output",
    "query_output",
    "key_output",
    "value_output",
    "embedding_output",
    "final_norm_output",
    "logits",
};

}  // namespace detail

inline std::string_view to_string(Component component) {
  return detail::kComponentNames.at(static_cast<std::size_t>(component));
}

/// @throws ConfigError listing the known names.
inline Component parse_component(std::string_view text) {
  for (std::size_t i = 0; i < detail::kComponentNames.size(); ++i) {
    if (detail::kComponentNames[i] == text) return static_cast<Component>(i);
  }
  fail<ConfigError>("parse_component", "\"{}\": expected one of {}", text, fmt::join(detail::kComponentNames, ", "));
}

/// True for the components that a model has once, not once per layer.
inline bool is_layerless(Component component) { return component >= Component::embedding_output; }

/// One place in a transformer: `{.layer = 3}` is the output of block 3.
struct Site {
  std::optional<int> layer = {};
  Component component = Component::block_output;
  std::optional<int> head = {};

  auto operator<=>(const Site&) const = default;
};

/// "layers.3.block_output", "layers.7.head_attention_value_output.8", "embedding_output", "logits".
inline std::string to_string(const Site& site) {
  std::string text(to_string(site.component));
  if (site.layer) text = fmt::format("layers.{}.{}", *site.layer, text);
  if (site.head) text += fmt::format(".{}", *site.head);
  return text;
}

/// Checks what holds for every model: layers for layered components only, heads for head components only.
/// @throws ConfigError.
inline void check_site(const Site& site) {
  const std::string_view name = to_string(site.component);
  const bool wants_head = site.component == Component::head_attention_value_output;
  if (is_layerless(site.component) && site.layer) {
    fail<ConfigError>("check_site", "{}: a model has one {}, so it takes no layer; write \"{}\"", to_string(site), name,
                      name);
  }
  if (!is_layerless(site.component) && !site.layer) {
    fail<ConfigError>("check_site", "{}: expected a layer, as in \"layers.0.{}\"", to_string(site), name);
  }
  if (site.layer && *site.layer < 0) {
    fail<ConfigError>("check_site", "{}: layers are counted from 0, got {}", to_string(site), *site.layer);
  }
  if (wants_head && !site.head) {
    fail<ConfigError>("check_site", "{}: expected a head, as in \"layers.{}.head.0\"", to_string(site), *site.layer);
  }
  if (!wants_head && site.head) {
    fail<ConfigError>("check_site", "{}: {} has no heads; write \"layers.{}.head.{}\" for one head's output",
                      to_string(site), name, site.layer.value_or(0), *site.head);
  }
  if (site.head && *site.head < 0) {
    fail<ConfigError>("check_site", "{}: heads are counted from 0, got {}", to_string(site), *site.head);
  }
}

/// Reads what `to_string(Site)` writes, and the short form "layers.7.head.8".
/// @throws ConfigError.
inline Site parse_site(std::string_view text) {
  constexpr std::string_view kLayers = "layers.";
  const auto malformed = [&]() {
    fail<ConfigError>("parse_site",
                      "\"{}\": expected layers.<layer>.<component>, layers.<layer>.head.<head>, "
                      "embedding_output, final_norm_output or logits",
                      text);
  };
  const auto number = [&](std::string_view digits) {
    const auto value = detail::parse_integer<int>(digits);
    if (!value || *value < 0) malformed();
    return *value;
  };
  Site site;
  std::string_view rest = text;
  if (rest.starts_with(kLayers)) {
    rest.remove_prefix(kLayers.size());
    const auto dot = rest.find('.');
    if (dot == std::string_view::npos) malformed();
    site.layer = number(rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
  } else if (rest.find('.') != std::string_view::npos) {
    malformed();
  }
  if (const auto dot = rest.find('.'); dot != std::string_view::npos) {
    site.head = number(rest.substr(dot + 1));
    rest = rest.substr(0, dot);
  }
  site.component = rest == "head" ? Component::head_attention_value_output : parse_component(rest);
  check_site(site);
  return site;
}

}  // namespace reft
