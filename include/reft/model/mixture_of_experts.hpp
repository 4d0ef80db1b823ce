#pragma once

#include <ATen/ops/linear.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reft/model/mlp.hpp"

namespace reft {

/// Several feed-forwards, of which each token takes a few.
///   Σ_e g_e · mlp_e(x) over the best experts,   g = softmax(W_router x) over all, made to sum to 1 over the best
/// Ref: Jiang et al. 2024, arXiv:2401.04088.
class MixtureOfExperts : public FeedForward {
 public:
  MixtureOfExperts(const TransformerConfig& config, int layer, torch::TensorOptions options) : config_(config), layer_(layer) {
    router_ = register_parameter("router", torch::empty({config.num_experts, config.hidden_size}, options));
    for (int64_t i = 0; i < config.num_experts; ++i) {
      experts_.push_back(register_module("expert" + std::to_string(i), std::make_shared<Mlp>(config, layer, options)));
    }
  }

  torch::Tensor forward(torch::Tensor x, const ForwardContext& context) const override {
    x = input_(std::move(x), context);
    const auto wide = torch::promote_types(x.scalar_type(), torch::kFloat32);
    const auto best = at::linear(x, router_).softmax(1, wide).topk(config_.num_experts_per_token, 1);  // (N, k) twice
    const torch::Tensor weights = std::get<0>(best), chosen = std::get<1>(best);
    const torch::Tensor gates = (weights / weights.sum(1, /*keepdim=*/true)).to(x.scalar_type());
    torch::Tensor sum = torch::zeros_like(x);
    for (int64_t i = 0; i < config_.num_experts; ++i) {
      const torch::Tensor places = (chosen == i).nonzero();  // (rows of this expert, 2)
      if (places.size(0) == 0) continue;
      const torch::Tensor rows = places.select(1, 0);
      const torch::Tensor gate = gates.index({rows, places.select(1, 1)}).unsqueeze(1);
      sum = sum.index_add(0, rows, experts_[i]->forward(x.index_select(0, rows), quiet_) * gate);
    }
    return output_(std::move(sum), context);
  }

  std::vector<WeightSlot> weight_slots(const std::string& prefix) const override {
    std::vector<WeightSlot> slots;
    slots.emplace_back(prefix + std::string(config_.weights.router) + ".weight", router_);
    for (size_t i = 0; i < experts_.size(); ++i) {
      append(slots, experts_[i]->weight_slots(prefix + std::string(config_.weights.experts) + "." + std::to_string(i) + "."));
    }
    return slots;
  }

  HookPoint* hook_point(const Site& site) override {
    return site.component == Component::mlp_input ? &input_ : site.component == Component::mlp_output ? &output_ : nullptr;
  }

  bool is_active(const ForwardContext& context) const override { return input_.is_active(context) || output_.is_active(context); }

 private:
  TransformerConfig config_;
  int layer_;
  torch::Tensor router_;  // (experts, D)
  std::vector<std::shared_ptr<Mlp>> experts_;
  // What acts at the sites of this part sees all tokens, not each expert's share of them.
  ForwardContext quiet_{Layout::ragged({1})};
  HookPoint input_{{layer_, Component::mlp_input, {}}};
  HookPoint output_{{layer_, Component::mlp_output, {}}};
};

}  // namespace reft
