#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "reft/model/attention.hpp"
#include "reft/model/mlp.hpp"
#include "reft/tensor/rms_norm.hpp"

namespace reft {

/// One decoder layer:   h = h + attention(norm(h));   h = h + mlp(norm(h)).
class Block : public torch::nn::Module {
 public:
  Block(const TransformerConfig& config, int layer, torch::TensorOptions options) : config_(config), layer_(layer) {
    input_norm_ = register_parameter("input_norm", torch::empty({config.hidden_size}, options));
    mlp_norm_ = register_parameter("mlp_norm", torch::empty({config.hidden_size}, options));
    attention_ = register_module("attention", std::make_shared<Attention>(config, layer, options));
    mlp_ = register_module("mlp", std::make_shared<Mlp>(config, layer, options));
  }

  /// @param h  (N, D); move it in.   @return (N, D).
  torch::Tensor forward(torch::Tensor h, const BlockInputs& inputs) const {
    h = input_(std::move(h), inputs.context);
    // Out of place: the norm has saved h, and both addends of the second sum live on in autograd.
    h = h + attention_->forward(rms_norm(h, input_norm_, config_.rms_norm_eps), inputs);
    h = h + mlp_->forward(rms_norm(h, mlp_norm_, config_.rms_norm_eps), inputs.context);
    return output_(std::move(h), inputs.context);
  }

  std::vector<WeightSlot> weight_slots() const {
    const std::string prefix = "model.layers." + std::to_string(layer_) + ".";
    std::vector<WeightSlot> slots = attention_->weight_slots(prefix + "self_attn.");
    const std::vector<WeightSlot> mlp = mlp_->weight_slots(prefix + "mlp.");
    slots.insert(slots.end(), mlp.begin(), mlp.end());
    add_slots(slots, input_norm_, {{prefix + "input_layernorm.weight", config_.hidden_size}});
    add_slots(slots, mlp_norm_, {{prefix + "post_attention_layernorm.weight", config_.hidden_size}});
    return slots;
  }

  HookPoint* hook_point(const Site& site) {
    if (site.component == Component::block_input) return &input_;
    if (site.component == Component::block_output) return &output_;
    if (HookPoint* found = attention_->hook_point(site)) return found;
    return mlp_->hook_point(site);
  }

 private:
  TransformerConfig config_;
  int layer_;
  torch::Tensor input_norm_, mlp_norm_;  // (D)
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<Mlp> mlp_;
  HookPoint input_{{layer_, Component::block_input, {}}};
  HookPoint output_{{layer_, Component::block_output, {}}};
};

}  // namespace reft
