#pragma once

#include <ATen/ops/linear.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/model/kv_cache.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weights.hpp"
#include "reft/tensor/attention.hpp"
#include "reft/tensor/rotary.hpp"

namespace reft {

/// What all blocks of one forward share.
struct BlockInputs {
  const ForwardContext& context;
  RotaryTable rotary;         // (N, E/2) twice
  KvCache* cache = nullptr;   // or none
};

/// Grouped-query self-attention with rotary positions, over flat rows.
///   o( softmax(rot(q) rot(k)ᵀ / √E + causal) v ),   [q | k | v] = W_qkv x
class Attention : public torch::nn::Module {
 public:
  Attention(const TransformerConfig& config, int layer, torch::TensorOptions options)
      : config_(config), layer_(layer) {
    const int64_t merged = config.query_width() + 2 * config.key_value_width();
    qkv_ = register_parameter("qkv", torch::empty({merged, config.hidden_size}, options));
    o_ = register_parameter("o", torch::empty({config.hidden_size, config.query_width()}, options));
    if (config.attention_bias) {
      qkv_bias_ = register_parameter("qkv_bias", torch::empty({merged}, options));
      o_bias_ = register_parameter("o_bias", torch::empty({config.hidden_size}, options));
    }
    for (int head = 0; head < config.num_attention_heads; ++head) {
      heads_.emplace_back(Site{layer, Component::head_attention_value_output, head});
    }
  }

  /// @param x  (N, D).   @return (N, D).
  torch::Tensor forward(torch::Tensor x, const BlockInputs& inputs) const {
    const ForwardContext& context = inputs.context;
    const int64_t query_width = config_.query_width(), width = config_.key_value_width(), E = config_.head_dim;
    x = input_(std::move(x), context);
    torch::Tensor qkv = at::linear(x, qkv_, qkv_bias_);  // (N, (H + 2K)·E)
    qkv = query_output_(std::move(qkv), context, {0, query_width});
    qkv = key_output_(std::move(qkv), context, {query_width, width});
    qkv = value_output_(std::move(qkv), context, {query_width + width, width});

    const auto parts = qkv.split_with_sizes({query_width + width, width}, 1);
    const torch::Tensor qk = rotary(parts[0].unflatten(1, {-1, E}), inputs.rotary);  // (N, H + K, E)
    const torch::Tensor v = parts[1].unflatten(1, {-1, E});                          // (N, K, E)
    const auto q_and_k = qk.split_with_sizes({config_.num_attention_heads, config_.num_key_value_heads}, 1);
    const torch::Tensor& q = q_and_k[0];
    const torch::Tensor& k = q_and_k[1];
    torch::Tensor mixed = inputs.cache ? inputs.cache->attend(layer_, q, k, v, context.layout())
                                       : ragged_attention(q, k, v, context.layout().lengths());
    mixed = value_mix_output_(mixed.flatten(1), context);  // (N, H·E)
    for (int64_t head = 0; head < config_.num_attention_heads; ++head) {
      mixed = heads_[head](std::move(mixed), context, {head * E, E});
    }
    return output_(at::linear(mixed, o_, o_bias_), context);
  }

  std::vector<WeightSlot> weight_slots(const std::string& prefix) const {
    const int64_t query_width = config_.query_width(), width = config_.key_value_width();
    std::vector<WeightSlot> slots;
    const auto add_qkv = [&](const torch::Tensor& parameter, const std::string& suffix) {
      add_slots(slots, parameter, {{prefix + "q_proj." + suffix, query_width},
                                   {prefix + "k_proj." + suffix, width},
                                   {prefix + "v_proj." + suffix, width}});
    };
    add_qkv(qkv_, "weight");
    add_slots(slots, o_, {{prefix + "o_proj.weight", config_.hidden_size}});
    if (config_.attention_bias) {
      add_qkv(qkv_bias_, "bias");
      add_slots(slots, o_bias_, {{prefix + "o_proj.bias", config_.hidden_size}});
    }
    return slots;
  }

  HookPoint* hook_point(const Site& site) {
    switch (site.component) {
      case Component::attention_input: return &input_;
      case Component::query_output: return &query_output_;
      case Component::key_output: return &key_output_;
      case Component::value_output: return &value_output_;
      case Component::attention_value_output: return &value_mix_output_;
      case Component::head_attention_value_output: return &heads_[*site.head];
      case Component::attention_output: return &output_;
      default: return nullptr;
    }
  }

 private:
  TransformerConfig config_;
  int layer_;
  torch::Tensor qkv_, qkv_bias_;  // ((H + 2K)·E, D), ((H + 2K)·E) or undefined
  torch::Tensor o_, o_bias_;      // (D, H·E), (D) or undefined
  HookPoint input_{{layer_, Component::attention_input, {}}};
  HookPoint query_output_{{layer_, Component::query_output, {}}};
  HookPoint key_output_{{layer_, Component::key_output, {}}};
  HookPoint value_output_{{layer_, Component::value_output, {}}};
  HookPoint value_mix_output_{{layer_, Component::attention_value_output, {}}};
  std::vector<HookPoint> heads_;  // (H)
  HookPoint output_{{layer_, Component::attention_output, {}}};
};

}  // namespace reft
