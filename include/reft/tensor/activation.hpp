#pragma once

#include <torch/types.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "reft/error.hpp"

namespace reft {

/// An elementwise function, shape and dtype kept.
using ActivationFunction = torch::Tensor (*)(const torch::Tensor& x);

namespace detail {

// The names are those of transformers' activation table.
inline constexpr std::array<std::pair<std::string_view, ActivationFunction>, 13> kActivations{{
    {"linear", [](const torch::Tensor& x) { return x; }},
    {"relu", [](const torch::Tensor& x) { return torch::relu(x); }},
    {"relu2", [](const torch::Tensor& x) { return torch::relu(x).square(); }},
    {"relu6", [](const torch::Tensor& x) { return x.clamp(0, 6); }},
    {"leaky_relu", [](const torch::Tensor& x) { return torch::leaky_relu(x); }},
    {"gelu", [](const torch::Tensor& x) { return torch::gelu(x); }},
    {"gelu_new", [](const torch::Tensor& x) { return torch::gelu(x, "tanh"); }},
    {"gelu_pytorch_tanh", [](const torch::Tensor& x) { return torch::gelu(x, "tanh"); }},
    {"quick_gelu", [](const torch::Tensor& x) { return x * torch::sigmoid(1.702 * x); }},
    {"silu", [](const torch::Tensor& x) { return torch::silu(x); }},
    {"swish", [](const torch::Tensor& x) { return torch::silu(x); }},
    {"sigmoid", [](const torch::Tensor& x) { return torch::sigmoid(x); }},
    {"tanh", [](const torch::Tensor& x) { return torch::tanh(x); }},
}};

}  // namespace detail

/// The activation with a name of transformers' table ("silu", "gelu_new", …; "linear" is the identity).
/// @throws ConfigError for an unknown name, listing the known ones.
inline ActivationFunction activation_function(std::string_view name) {
  std::string known;
  for (const auto& [candidate, function] : detail::kActivations) {
    if (candidate == name) return function;
    known += known.empty() ? "" : ", ";
    known += candidate;
  }
  fail<ConfigError>("activation_function", "\"{}\": expected one of {}", name, known);
}

}  // namespace reft
