#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "reft/hook/layout.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/tensor/rotary.hpp"

namespace reft {

namespace detail {

// Long wavelengths are stretched by the factor, short ones kept, those between blended (Llama 3.1).
inline double llama3_frequency(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const auto context = static_cast<double>(scaling.original_max_position_embeddings);
  if (wavelength < context / scaling.high_freq_factor) return frequency;
  if (wavelength > context / scaling.low_freq_factor) return frequency / scaling.factor;
  const double blend =
      (context / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0 - blend) * frequency / scaling.factor + blend * frequency;
}

// Dimensions that turn more than beta_fast times within the trained context are kept, those that turn less than
// beta_slow times divided by the factor, those between blended.
// Ref: Peng et al. 2023, arXiv:2309.00071.
inline double yarn_frequency(double frequency, int64_t index, double theta, int64_t width, const RopeScaling& scaling) {
  const auto dimension = [&](double turns) {
    const double context = static_cast<double>(scaling.original_max_position_embeddings);
    return static_cast<double>(width) * std::log(context / (turns * 2.0 * std::numbers::pi)) / (2.0 * std::log(theta));
  };
  double low = dimension(scaling.beta_fast), high = dimension(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((static_cast<double>(index) - low) / (high - low), 0.0, 1.0);
  return frequency / scaling.factor * ramp + frequency * (1.0 - ramp);
}

}  // namespace detail

/// The rotary_dim/2 angles per position: theta^(-2i/rotary_dim), scaled as the config says.
/// @param longest  tokens of the longest sequence; dynamic scaling grows theta with it once it exceeds the context, long
///                 rope then takes its other factors.
inline std::vector<double> rope_frequencies(const TransformerConfig& config, int64_t longest) {
  using Kind = RopeScaling::Kind;
  const RopeScaling& scaling = config.rope_scaling;
  const int64_t width = config.rotary_dim();
  double theta = config.rope_theta;
  if (scaling.kind == Kind::dynamic && longest > config.max_position_embeddings) {
    const double stretch = scaling.factor * static_cast<double>(longest) / static_cast<double>(config.max_position_embeddings);
    theta *= std::pow(stretch - (scaling.factor - 1.0), static_cast<double>(width) / static_cast<double>(width - 2));
  }
  const auto& factors = longest > scaling.original_max_position_embeddings ? scaling.long_factor : scaling.short_factor;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < width / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(width));
    if (scaling.kind == Kind::linear) frequency /= scaling.factor;
    if (scaling.kind == Kind::llama3) frequency = detail::llama3_frequency(frequency, scaling);
    if (scaling.kind == Kind::yarn) frequency = detail::yarn_frequency(frequency, i, theta, width, scaling);
    if (scaling.kind == Kind::longrope) frequency /= factors[i];
    frequencies.push_back(frequency);
  }
  return frequencies;
}

/// The rotation table of one batch, shared by all layers.
/// Dynamic scaling and long rope look at each sequence's own length, so that a result does not depend on its neighbours.
/// @return cosine and sine, (N, rotary_dim/2) in `dtype`; angles are formed in float32, as transformers does.
inline RotaryTable rotary_table(const TransformerConfig& config, const Layout& layout, torch::Dtype dtype) {
  const auto table_of = [&](const torch::Tensor& positions, int64_t longest) {
    const torch::Tensor frequencies =
        torch::tensor(rope_frequencies(config, longest), torch::kFloat64).to(positions.device(), torch::kFloat32);
    return positions.to(torch::kFloat32).unsqueeze(1) * frequencies.unsqueeze(0);  // (rows, rotary_dim/2)
  };
  const torch::Tensor& positions = layout.position_ids();
  const RopeScaling& scaling = config.rope_scaling;
  torch::Tensor angles;
  if (scaling.kind != RopeScaling::Kind::dynamic && scaling.kind != RopeScaling::Kind::longrope) {
    angles = table_of(positions, 0);
  } else {
    std::vector<torch::Tensor> parts;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const int64_t rows = layout.start(i + 1) - layout.start(i);
      parts.push_back(table_of(positions.narrow(0, layout.start(i), rows), layout.past_length(i) + rows));
    }
    angles = torch::cat(parts);
  }
  torch::Tensor cosine = angles.cos(), sine = angles.sin();
  if (scaling.attention_factor != 1.0) {
    cosine = cosine * scaling.attention_factor;
    sine = sine * scaling.attention_factor;
  }
  return {cosine.to(dtype), sine.to(dtype)};
}

/// The table of layers with a rotation of their own: `rope_local_theta`, unscaled.
inline RotaryTable local_rotary_table(TransformerConfig config, const Layout& layout, torch::Dtype dtype) {
  config.rope_theta = config.rope_local_theta;
  config.rope_scaling = {};
  return rotary_table(config, layout, dtype);
}

}  // namespace reft
