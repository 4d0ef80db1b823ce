#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "reft/model/attention.hpp"
#include "reft/model/mixture_of_experts.hpp"
#include "reft/model/mlp.hpp"
#include "reft/model/norm.hpp"

namespace reft {

/// One layer:   h = h + attention(norm(h));   h = h + mlp(norm(h)),   the norms where the family has them.
class Block : public torch::nn::Module {
 public:
  Block(const TransformerConfig& config, int layer, torch::TensorOptions options) : config_(config), layer_(layer) {
    attention_norms_ = make_norms("attention", options);
    mlp_norms_ = make_norms("mlp", options);
    attention_ = register_module("attention", std::make_shared<Attention>(config, layer, options));
    mlp_ = config.num_experts > 0 ? add_mlp<MixtureOfExperts>(options) : add_mlp<Mlp>(options);
  }

  /// @param h  (N, D); move it in.   @return (N, D).
  torch::Tensor forward(torch::Tensor h, const BlockInputs& inputs) const {
    const auto attention = [&](torch::Tensor x) { return attention_->forward(std::move(x), inputs); };
    const auto mlp = [&](torch::Tensor x) { return mlp_->forward(std::move(x), inputs.context); };
    h = input_(std::move(h), inputs.context);
    // Sums are out of place: a norm has saved h, and both addends of the second sum live on in autograd.
    if (config_.parallel_residual) {
      h = update(h, mlp_norms_, mlp) + update(h, attention_norms_, attention) + h;
    } else {
      h = summed(h + update(h, attention_norms_, attention), attention_norms_);
      h = summed(h + update(h, mlp_norms_, mlp), mlp_norms_);
    }
    return output_(std::move(h), inputs.context);
  }

  /// What acts at the block's output, on an output that was computed before.
  torch::Tensor output(torch::Tensor h, const ForwardContext& context) const { return output_(std::move(h), context); }

  std::vector<WeightSlot> weight_slots() const {
    const WeightNames& names = config_.weights;
    const std::string prefix = std::string(names.base) + std::string(names.layers) + std::to_string(layer_) + ".";
    std::vector<WeightSlot> slots = attention_->weight_slots(prefix);
    append(slots, mlp_->weight_slots(prefix));
    const auto add = [&](const std::shared_ptr<Norm>& norm, std::string_view name) {
      if (norm) norm->add_slots(slots, prefix + std::string(name));
    };
    add(attention_norms_.input, names.attention_input_norm);
    add(mlp_norms_.input, names.mlp_input_norm);
    add(attention_norms_.output, names.attention_output_norm);
    add(mlp_norms_.output, names.mlp_output_norm);
    return slots;
  }

  HookPoint* hook_point(const Site& site) {
    if (site.component == Component::block_input) return &input_;
    if (site.component == Component::block_output) return &output_;
    if (HookPoint* found = attention_->hook_point(site)) return found;
    return mlp_->hook_point(site);
  }

 private:
  /// The norms around one part of the block; those a family lacks are null. `output` stands before the sum or after it.
  struct Norms {
    std::shared_ptr<Norm> input, output;
  };

  template <class Part>
  std::shared_ptr<FeedForward> add_mlp(torch::TensorOptions options) {
    return register_module("mlp", std::make_shared<Part>(config_, layer_, options));
  }

  Norms make_norms(const std::string& part, torch::TensorOptions options) {
    const auto make = [&](const char* side) {
      return register_module(part + side, std::make_shared<Norm>(config_, config_.hidden_size, options));
    };
    const NormPlacement placement = config_.norm_placement;
    Norms norms;
    if (placement == NormPlacement::input || placement == NormPlacement::input_and_output) norms.input = make("_input_norm");
    if (placement != NormPlacement::input) norms.output = make("_output_norm");
    return norms;
  }

  template <class Part>
  torch::Tensor update(const torch::Tensor& h, const Norms& norms, const Part& part) const {
    torch::Tensor result = part(norms.input ? norms.input->forward(h) : h);
    const bool before_sum = norms.output && config_.norm_placement != NormPlacement::sum;
    return before_sum ? norms.output->forward(result) : result;
  }

  torch::Tensor summed(torch::Tensor sum, const Norms& norms) const {
    return config_.norm_placement == NormPlacement::sum ? norms.output->forward(sum) : sum;
  }

  TransformerConfig config_;
  int layer_;
  Norms attention_norms_, mlp_norms_;
  std::shared_ptr<Attention> attention_;
  std::shared_ptr<FeedForward> mlp_;
  HookPoint input_{{layer_, Component::block_input, {}}};
  HookPoint output_{{layer_, Component::block_output, {}}};
};

}  // namespace reft
