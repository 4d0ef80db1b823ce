#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/model/linear.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weights.hpp"
#include "reft/tensor/activation.hpp"
#include "reft/tensor/swiglu.hpp"

namespace reft {

/// The part of a block that looks at each row alone.
class FeedForward : public torch::nn::Module {
 public:
  /// @param x  (N, D).   @return (N, D).
  virtual torch::Tensor forward(torch::Tensor x, const ForwardContext& context) const = 0;
  /// @param prefix  "model.layers.3."
  virtual std::vector<WeightSlot> weight_slots(const std::string& prefix) const = 0;
  virtual HookPoint* hook_point(const Site& site) = 0;
  /// Whether something acts at one of its sites.
  virtual bool is_active(const ForwardContext& context) const = 0;
};

/// Gated:   W_down( act(W_gate x) · W_up x ),   or plain:   W_down( act(W_up x) ).
class Mlp : public FeedForward {
 public:
  Mlp(const TransformerConfig& config, int layer, torch::TensorOptions options)
      : config_(config), layer_(layer), activation_(activation_function(config.hidden_act)) {
    const int64_t merged = (config.gated_mlp ? 2 : 1) * config.intermediate_size;
    gate_up_ = register_module("gate_up", std::make_shared<Linear>(config.hidden_size, merged, config.mlp_bias, options));
    down_ = register_module("down", std::make_shared<Linear>(config.intermediate_size, config.hidden_size, config.mlp_bias, options));
  }

  torch::Tensor forward(torch::Tensor x, const ForwardContext& context) const override {
    x = input_(std::move(x), context);
    return output_(down_->forward(activated(gate_up_->forward(x), context)), context);
  }

  std::vector<WeightSlot> weight_slots(const std::string& prefix) const override {
    const WeightNames& names = config_.weights;
    std::vector<WeightSlot> slots;
    const auto add_pair = [&](const torch::Tensor& gate_up, const torch::Tensor& down, const char* suffix) {
      const int64_t F = config_.intermediate_size;
      std::vector<std::pair<std::string, int64_t>> parts;
      if (!names.gate_up.empty()) parts = {{prefix + std::string(names.gate_up) + suffix, 2 * F}};
      else if (config_.gated_mlp) parts = {{prefix + std::string(names.gate) + suffix, F}, {prefix + std::string(names.up) + suffix, F}};
      else parts = {{prefix + std::string(names.up) + suffix, F}};
      add_slots(slots, gate_up, parts, names.transposed);
      add_slots(slots, down, {{prefix + std::string(names.down) + suffix, config_.hidden_size}}, names.transposed);
    };
    add_pair(gate_up_->weight(), down_->weight(), ".weight");
    if (config_.mlp_bias) add_pair(gate_up_->bias(), down_->bias(), ".bias");
    return slots;
  }

  HookPoint* hook_point(const Site& site) override {
    switch (site.component) {
      case Component::mlp_input: return &input_;
      case Component::mlp_activation: return &activation_point_;
      case Component::mlp_output: return &output_;
      default: return nullptr;
    }
  }

  bool is_active(const ForwardContext& context) const override {
    return input_.is_active(context) || activation_point_.is_active(context) || output_.is_active(context);
  }

 private:
  // (N, 2F) or (N, F) -> (N, F)
  torch::Tensor activated(const torch::Tensor& gate_up, const ForwardContext& context) const {
    if (!config_.gated_mlp) return activation_point_(activation_(gate_up), context);
    const bool is_silu = config_.hidden_act == "silu" || config_.hidden_act == "swish";
    if (is_silu && !activation_point_.is_active(context)) return swiglu(gate_up);
    const auto parts = gate_up.chunk(2, 1);
    return activation_point_(activation_(parts[0]), context) * parts[1];
  }

  TransformerConfig config_;
  int layer_;
  ActivationFunction activation_;
  std::shared_ptr<Linear> gate_up_, down_;  // (2F, D), or (F, D) where not gated; (D, F)
  HookPoint input_{{layer_, Component::mlp_input, {}}};
  HookPoint activation_point_{{layer_, Component::mlp_activation, {}}};
  HookPoint output_{{layer_, Component::mlp_output, {}}};
};

}  // namespace reft
