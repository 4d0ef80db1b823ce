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

}  // namespace detail

/// The E/2 angles per position: theta^(-2i/E), scaled as the config says.
/// @param longest  tokens of the longest sequence; dynamic scaling grows theta with it once it exceeds the context.
inline std::vector<double> rope_frequencies(const TransformerConfig& config, int64_t longest) {
  const RopeScaling& scaling = config.rope_scaling;
  const auto width = static_cast<double>(config.head_dim);
  double theta = config.rope_theta;
  if (scaling.kind == RopeScaling::Kind::dynamic && longest > config.max_position_embeddings) {
    const double stretch = scaling.factor * static_cast<double>(longest) / static_cast<double>(config.max_position_embeddings);
    theta *= std::pow(stretch - (scaling.factor - 1.0), width / (width - 2.0));
  }
  std::vector<double> frequencies;
  for (int64_t i = 0; i < config.head_dim / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / width);
    if (scaling.kind == RopeScaling::Kind::linear) frequency /= scaling.factor;
    if (scaling.kind == RopeScaling::Kind::llama3) frequency = detail::llama3_frequency(frequency, scaling);
    frequencies.push_back(frequency);
  }
  return frequencies;
}

/// The rotation table of one batch, shared by all layers.
/// Dynamic scaling looks at each sequence's own length, so that a result does not depend on its neighbours.
/// @return cosine and sine, (N, E/2) in `dtype`; angles are formed in float32, as transformers does.
inline RotaryTable rotary_table(const TransformerConfig& config, const Layout& layout, torch::Dtype dtype) {
  const auto table_of = [&](const torch::Tensor& positions, int64_t longest) {
    const torch::Tensor frequencies =
        torch::tensor(rope_frequencies(config, longest), torch::kFloat64).to(positions.device(), torch::kFloat32);
    return positions.to(torch::kFloat32).unsqueeze(1) * frequencies.unsqueeze(0);  // (rows, E/2)
  };
  const torch::Tensor& positions = layout.position_ids();
  torch::Tensor angles;
  if (config.rope_scaling.kind != RopeScaling::Kind::dynamic) {
    angles = table_of(positions, 0);
  } else {
    std::vector<torch::Tensor> parts;
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const int64_t rows = layout.start(i + 1) - layout.start(i);
      parts.push_back(table_of(positions.narrow(0, layout.start(i), rows), layout.past_length(i) + rows));
    }
    angles = torch::cat(parts);
  }
  return {angles.cos().to(dtype), angles.sin().to(dtype)};
}

}  // namespace reft
