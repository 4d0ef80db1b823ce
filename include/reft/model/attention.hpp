#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "reft/hook/hook_point.hpp"
#include "reft/model/kv_cache.hpp"
#include "reft/model/linear.hpp"
#include "reft/model/norm.hpp"
#include "reft/model/transformer_config.hpp"
#include "reft/model/weights.hpp"
#include "reft/tensor/attention.hpp"
#include "reft/tensor/live_row_attention.hpp"
#include "reft/tensor/rotary.hpp"

namespace reft {

/// What all blocks of one forward share.
struct BlockInputs {
  const ForwardContext& context;
  RotaryTable rotary;         // (N, rotary_dim/2) twice, of layers that see everything
  RotaryTable local_rotary;   // the same for layers with a window, where a family tells them apart
  KvCache* cache = nullptr;   // or none
};

/// What attention sees where all but P rows are constant; see Note [Live rows].
struct LiveInput {
  torch::Tensor all;   // (N, D), without a graph
  torch::Tensor live;  // (P, D) the live ones of them, with theirs
  torch::Tensor rows;  // (P) which these are
};

/// Grouped-query self-attention over flat rows.
///   o( softmax(rot(q) rot(k)ᵀ · scale + mask) v ),   [q | k | v] = W_qkv x,   q and k normed where a family does so
class Attention : public torch::nn::Module {
 public:
  Attention(const TransformerConfig& config, int layer, torch::TensorOptions options)
      : config_(config), layer_(layer), rotation_(config.has_rotary() ? config.layer(layer).rotary : LayerSwitches::Rotary::none) {
    scores_ = {config.score_scale(), config.layer(layer).window, config.attn_logit_softcapping, config.causal};
    qkv_ = register_module("qkv", std::make_shared<Linear>(config.hidden_size, config.merged_width(), config.attention_bias, options));
    o_ = register_module("o", std::make_shared<Linear>(config.query_width(), config.hidden_size, config.attention_output_bias, options));
    if (const int64_t width = config.query_key_norm; width != 0) {
      const bool whole = width == TransformerConfig::kWholeRow;
      query_norm_ = register_module("query_norm", std::make_shared<Norm>(config, whole ? config.query_width() : width, options));
      key_norm_ = register_module("key_norm", std::make_shared<Norm>(config, whole ? config.key_value_width() : width, options));
    }
    for (int head = 0; head < config.num_attention_heads; ++head) {
      heads_.emplace_back(Site{layer, Component::head_attention_value_output, head});
    }
  }

  /// @param x  (N, D).   @param rows  (S) int64, the rows wanted, or undefined: all.   @return (N, D), or (S, D).
  torch::Tensor forward(torch::Tensor x, const BlockInputs& inputs, const torch::Tensor& rows = {}) const {
    const ForwardContext& context = inputs.context;
    const int64_t query_width = config_.query_width(), width = config_.key_value_width();
    x = input_(std::move(x), context);
    torch::Tensor qkv = qkv_->forward(x);  // (N, (H + 2K)·E)
    qkv = query_output_(std::move(qkv), context, {0, query_width});
    qkv = key_output_(std::move(qkv), context, {query_width, width});
    qkv = value_output_(std::move(qkv), context, {query_width + width, width});

    const Heads heads = heads_of(qkv, rotary_of(inputs));
    return output_of(mixed(heads, inputs), context, rows);
  }

  /// The same where most of x is constant.
  torch::Tensor forward(const LiveInput& x, const BlockInputs& inputs, const torch::Tensor& rows = {}) const {
    const int64_t group = config_.num_attention_heads / config_.num_key_value_heads;
    const auto project = [&](const torch::Tensor& part, const RotaryTable& rotary) {
      Heads heads = heads_of(qkv_->forward(part), rotary);
      if (group > 1) heads.k = heads.k.repeat_interleave(group, 1), heads.v = heads.v.repeat_interleave(group, 1);
      return heads;
    };
    const RotaryTable& rotary = rotary_of(inputs);
    const Heads all = project(x.all, rotary), live = project(x.live, rotary.rows(x.rows));
    const torch::Tensor mixed =
        live_row_attention(all.q, all.k, all.v, live.q, live.k, live.v, x.rows, inputs.context.layout().lengths(), scores_);
    return output_of(mixed, inputs.context, rows);
  }

  /// Whether the forward for a mostly constant input gives the same: nothing acts before the heads, no weight is trained.
  bool can_take_live_rows(const BlockInputs& inputs) const {
    const ForwardContext& context = inputs.context;
    const bool plain = scores_.window == 0 && scores_.soft_cap == 0.0 && inputs.cache == nullptr && context.past().empty();
    const auto trains = [](const torch::Tensor& parameter) { return parameter.requires_grad(); };
    const std::vector<torch::Tensor> all = parameters();
    return plain && !acts_before_heads(context) && std::none_of(all.begin(), all.end(), trains);
  }

  /// @param prefix  "model.layers.3."
  std::vector<WeightSlot> weight_slots(const std::string& prefix) const {
    const WeightNames& names = config_.weights;
    const auto name = [&](std::string_view part, const char* suffix) { return prefix + std::string(part) + suffix; };
    std::vector<WeightSlot> slots;
    add_qkv_slots(slots, qkv_->weight(), name, ".weight");
    add_slots(slots, o_->weight(), {{name(names.attention_output, ".weight"), config_.hidden_size}}, names.transposed);
    if (qkv_->bias().defined()) add_qkv_slots(slots, qkv_->bias(), name, ".bias");
    if (o_->bias().defined()) add_slots(slots, o_->bias(), {{name(names.attention_output, ".bias"), config_.hidden_size}});
    if (query_norm_) {
      query_norm_->add_slots(slots, name(names.query_norm, ""));
      key_norm_->add_slots(slots, name(names.key_norm, ""));
    }
    return slots;
  }

  /// Whether something acts at one of its sites.
  bool is_active(const ForwardContext& context) const {
    return acts_before_heads(context) || value_mix_output_.is_active(context) || output_.is_active(context) ||
           std::any_of(heads_.begin(), heads_.end(), [&](const HookPoint& head) { return head.is_active(context); });
  }

  /// Whether something acts on what it returns.
  bool acts_at_output(const ForwardContext& context) const { return output_.is_active(context); }

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
  bool acts_before_heads(const ForwardContext& context) const {
    return input_.is_active(context) || query_output_.is_active(context) || key_output_.is_active(context) || value_output_.is_active(context);
  }

  struct Heads {
    torch::Tensor q, k, v;  // (N, H, E), (N, K, E) twice
  };

  // (N, (H + 2K)·E) -> the heads, normed and rotated as the family does.
  Heads heads_of(const torch::Tensor& qkv, const RotaryTable& table) const {
    const int64_t width = config_.key_value_width(), E = config_.head_dim;
    const auto parts = qkv.split_with_sizes({config_.query_width() + width, width}, 1);
    torch::Tensor qk = normed(parts[0]).unflatten(1, {-1, E});  // (N, H + K, E)
    if (rotation_ != LayerSwitches::Rotary::none) qk = rotary(qk, table);
    const auto q_and_k = qk.split_with_sizes({config_.num_attention_heads, config_.num_key_value_heads}, 1);
    return {q_and_k[0], q_and_k[1], parts[1].unflatten(1, {-1, E})};
  }

  // The values each query sees, weighted: (N, H, E).
  torch::Tensor mixed(const Heads& heads, const BlockInputs& inputs) const {
    const Layout& layout = inputs.context.layout();
    if (inputs.cache) return inputs.cache->attend(layer_, heads.q, heads.k, heads.v, layout, scores_);
    if (inputs.context.past().empty()) return ragged_attention(heads.q, heads.k, heads.v, layout.lengths(), scores_);
    std::vector<torch::Tensor> past;
    for (const torch::Tensor& all_layers : inputs.context.past()) past.push_back(all_layers[layer_]);
    return continued_attention(heads.q, heads.k, heads.v, layout.lengths(), past, scores_);
  }

  // (N, H, E) -> (N, D), or (S, D) of the rows wanted.
  torch::Tensor output_of(torch::Tensor mixed, const ForwardContext& context, const torch::Tensor& rows) const {
    const int64_t E = config_.head_dim;
    mixed = value_mix_output_(mixed.flatten(1), context);  // (N, H·E)
    for (int64_t head = 0; head < config_.num_attention_heads; ++head) {
      mixed = heads_[head](std::move(mixed), context, {head * E, E});
    }
    if (rows.defined()) mixed = mixed.index_select(0, rows);
    return output_(o_->forward(mixed), context);
  }

  // (N, (H + K)·E) -> the same, each head or each token's heads together normed.
  torch::Tensor normed(const torch::Tensor& qk) const {
    if (!query_norm_) return qk;
    const auto parts = qk.split_with_sizes({config_.query_width(), config_.key_value_width()}, 1);
    const auto apply = [](const Norm& norm, const torch::Tensor& x) {
      return norm.forward(x.unflatten(1, {-1, norm.width()})).flatten(1);
    };
    return torch::cat({apply(*query_norm_, parts[0]), apply(*key_norm_, parts[1])}, 1);
  }

  const RotaryTable& rotary_of(const BlockInputs& inputs) const {
    return rotation_ == LayerSwitches::Rotary::local ? inputs.local_rotary : inputs.rotary;
  }

  template <class Name>
  void add_qkv_slots(std::vector<WeightSlot>& slots, const torch::Tensor& parameter, Name name, const char* suffix) const {
    const WeightNames& names = config_.weights;
    const int64_t query_width = config_.query_width(), width = config_.key_value_width();
    if (names.query_key_value.empty()) {
      add_slots(slots, parameter, {{name(names.query, suffix), query_width}, {name(names.key, suffix), width}, {name(names.value, suffix), width}});
    } else if (names.by_head) {
      slots.emplace_back(name(names.query_key_value, suffix), parameter.unflatten(0, {3, -1, config_.head_dim}).transpose(0, 1),
                         parameter.sizes().vec());
    } else {
      add_slots(slots, parameter, {{name(names.query_key_value, suffix), config_.merged_width()}}, names.transposed);
    }
  }

  TransformerConfig config_;
  int layer_;
  LayerSwitches::Rotary rotation_;
  AttentionScores scores_;
  std::shared_ptr<Linear> qkv_, o_;              // ((H + 2K)·E, D), (D, H·E)
  std::shared_ptr<Norm> query_norm_, key_norm_;  // or none
  HookPoint input_{{layer_, Component::attention_input, {}}};
  HookPoint query_output_{{layer_, Component::query_output, {}}};
  HookPoint key_output_{{layer_, Component::key_output, {}}};
  HookPoint value_output_{{layer_, Component::value_output, {}}};
  HookPoint value_mix_output_{{layer_, Component::attention_value_output, {}}};
  std::vector<HookPoint> heads_;  // (H)
  HookPoint output_{{layer_, Component::attention_output, {}}};
};

}  // namespace reft
