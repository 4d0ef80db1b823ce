#pragma once

#include <ATen/ops/linear.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weights.hpp"
#include "reft/tensor/activation.hpp"
#include "reft/tensor/swiglu.hpp"

namespace reft {

/// Gated feed-forward:   W_down( act(W_gate x) · W_up x ).
class Mlp : public torch::nn::Module {
 public:
  Mlp(const TransformerConfig& config, int layer, torch::TensorOptions options)
      : config_(config), layer_(layer), activation_(activation_function(config.hidden_act)) {
    gate_up_ = register_parameter("gate_up", torch::empty({2 * config.intermediate_size, config.hidden_size}, options));
    down_ = register_parameter("down", torch::empty({config.hidden_size, config.intermediate_size}, options));
    if (config.mlp_bias) {
      gate_up_bias_ = register_parameter("gate_up_bias", torch::empty({2 * config.intermediate_size}, options));
      down_bias_ = register_parameter("down_bias", torch::empty({config.hidden_size}, options));
    }
  }

  /// @param x  (N, D).   @return (N, D).
  torch::Tensor forward(torch::Tensor x, const ForwardContext& context) const {
    x = input_(std::move(x), context);
    const torch::Tensor gate_up = at::linear(x, gate_up_, gate_up_bias_);  // (N, 2F)
    const bool is_silu = config_.hidden_act == "silu" || config_.hidden_act == "swish";
    torch::Tensor gated;
    if (is_silu && !activation_point_.is_active(context)) {
      gated = swiglu(gate_up);
    } else {
      const auto parts = gate_up.chunk(2, 1);
      gated = activation_point_(activation_(parts[0]), context) * parts[1];
    }
    return output_(at::linear(gated, down_, down_bias_), context);
  }

  std::vector<WeightSlot> weight_slots(const std::string& prefix) const {
    std::vector<WeightSlot> slots;
    const int64_t F = config_.intermediate_size;
    add_slots(slots, gate_up_, {{prefix + "gate_proj.weight", F}, {prefix + "up_proj.weight", F}});
    add_slots(slots, down_, {{prefix + "down_proj.weight", config_.hidden_size}});
    if (config_.mlp_bias) {
      add_slots(slots, gate_up_bias_, {{prefix + "gate_proj.bias", F}, {prefix + "up_proj.bias", F}});
      add_slots(slots, down_bias_, {{prefix + "down_proj.bias", config_.hidden_size}});
    }
    return slots;
  }

  HookPoint* hook_point(const Site& site) {
    switch (site.component) {
      case Component::mlp_input: return &input_;
      case Component::mlp_activation: return &activation_point_;
      case Component::mlp_output: return &output_;
      default: return nullptr;
    }
  }

 private:
  TransformerConfig config_;
  int layer_;
  ActivationFunction activation_;
  torch::Tensor gate_up_, gate_up_bias_;  // (2F, D), (2F) or undefined
  torch::Tensor down_, down_bias_;        // (D, F), (D) or undefined
  HookPoint input_{{layer_, Component::mlp_input, {}}};
  HookPoint activation_point_{{layer_, Component::mlp_activation, {}}};
  HookPoint output_{{layer_, Component::mlp_output, {}}};
};

}  // namespace reft
