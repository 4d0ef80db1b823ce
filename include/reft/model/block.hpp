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
#include "reft/tensor/checkpointed.hpp"
#include "reft/tensor/edit_rows.hpp"

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

  /// @param h     (N, D); move it in.
  /// @param rows  (S) int64, distinct, the rows wanted of a block that `can_select_rows`, or undefined: all. Keys and values
  ///              are computed for all rows, what comes after attention for these.
  /// @return (N, D), or (S, D).
  torch::Tensor forward(torch::Tensor h, const BlockInputs& inputs, const torch::Tensor& rows = {}) const {
    const torch::Tensor x = input_(std::move(h), inputs.context);
    h = can_checkpoint(inputs) ? recomputed(x, inputs, rows) : computed(x, inputs, rows);
    if (!rows.defined() || !output_.is_active(inputs.context)) return output_(std::move(h), inputs.context);
    // Edits name rows of the whole batch. The rows that are not there hold what came in: finite, and read by nobody.
    return output_(x.detach().index_copy(0, rows, h), inputs.context).index_select(0, rows);
  }

  /// Whether all that acts after attention, if anything, are edits of this block's output that only the model reads.
  bool can_select_rows(const ForwardContext& context) const {
    return !attention_->acts_at_output(context) && !mlp_->is_active(context) && !output_.is_watched(context) &&
           !context.has_auxiliary_loss();
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
  static constexpr int64_t kConstantShare = 4;  // with more live rows than one in so many, the plain backward costs less

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

  // What lies between the hooks at the block's ends: (N, D) to (N, D), or (S, D) of the rows wanted.
  torch::Tensor computed(const torch::Tensor& x, const BlockInputs& inputs, const torch::Tensor& rows) const {
    const auto mlp = [&](const torch::Tensor& h) { return with_output_norm(mlp_->forward(normed(h, mlp_norms_), inputs.context), mlp_norms_); };
    torch::Tensor h = rows.defined() ? x.index_select(0, rows) : x;
    // Sums are out of place: a norm has saved h, and both addends of the second sum live on in autograd.
    if (config_.parallel_residual) return mlp(h) + attended(x, inputs, rows) + h;
    h = summed(h + attended(x, inputs, rows), attention_norms_);
    return summed(h + mlp(h), mlp_norms_);
  }

  bool can_checkpoint(const BlockInputs& inputs) const {
    return inputs.context.checkpoints_blocks() && inputs.cache == nullptr && !attention_->is_active(inputs.context) && !mlp_->is_active(inputs.context);
  }

  // The same; the graph keeps x, the block and a context in which nothing acts.
  torch::Tensor recomputed(const torch::Tensor& x, const BlockInputs& inputs, const torch::Tensor& rows) const {
    const auto self = std::static_pointer_cast<const Block>(shared_from_this());
    const auto context = std::make_shared<ForwardContext>(inputs.context.layout());
    context->continue_from(inputs.context.past());
    return checkpointed(x, [self, context, rows, global = inputs.rotary, local = inputs.local_rotary](const torch::Tensor& x) {
      return self->computed(x, {*context, global, local}, rows);
    });
  }

  // What attention adds to x: (N, D), or (S, D) of the rows wanted.
  torch::Tensor attended(const torch::Tensor& x, const BlockInputs& inputs, const torch::Tensor& rows) const {
    const torch::Tensor live = live_rows(x);
    const bool few = live.defined() && live.numel() * kConstantShare <= x.size(0) && !trains_attention_norm();
    if (!few || !attention_->can_take_live_rows(inputs)) {
      return with_output_norm(attention_->forward(normed(x, attention_norms_), inputs, rows), attention_norms_);
    }
    const LiveInput input{normed(x.detach(), attention_norms_), normed(x.index_select(0, live), attention_norms_), live};
    return with_output_norm(attention_->forward(input, inputs, rows), attention_norms_);
  }

  bool trains_attention_norm() const { return attention_norms_.input && attention_norms_.input->is_trained(); }

  torch::Tensor normed(const torch::Tensor& h, const Norms& norms) const { return norms.input ? norms.input->forward(h) : h; }

  torch::Tensor with_output_norm(const torch::Tensor& update, const Norms& norms) const {
    const bool before_sum = norms.output && config_.norm_placement != NormPlacement::sum;
    return before_sum ? norms.output->forward(update) : update;
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
