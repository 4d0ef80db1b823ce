#pragma once

#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reft/model/block.hpp"
#include "reft/model/rope.hpp"
#include "reft/tensor/linear_cross_entropy.hpp"

namespace reft {

/// A decoder with a language-modelling head, over flat token rows.
///   embed ─► block 0 ─► … ─► block L-1 ─► final norm ─► head
/// Frozen unless its parameters are asked to require gradients; a forward changes nothing in it, so threads, models and
/// adapters may share one.
class CausalLMImpl : public torch::nn::Module {
 public:
  // CONSTRUCTION

  /// Allocates the weights without values; see `load_causal_lm` and `initialize`.
  explicit CausalLMImpl(const TransformerConfig& config, torch::TensorOptions options = torch::kFloat32)
      : config_(config) {
    validate(config);
    embedding_ = register_parameter("embedding", torch::empty({config.vocab_size, config.hidden_size}, options));
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      blocks_.push_back(register_module("block" + std::to_string(layer), std::make_shared<Block>(config, layer, options)));
    }
    final_norm_ = register_parameter("final_norm", torch::empty({config.hidden_size}, options));
    head_ = config.tie_word_embeddings
                ? embedding_
                : register_parameter("head", torch::empty({config.vocab_size, config.hidden_size}, options));
    for (torch::Tensor& parameter : parameters()) parameter.requires_grad_(false);
  }

  // WHAT IT IS

  const TransformerConfig& config() const { return config_; }
  int64_t num_layers() const { return config_.num_hidden_layers; }
  torch::Device device() const { return embedding_.device(); }
  torch::Dtype dtype() const { return embedding_.scalar_type(); }

  int64_t num_parameters() const {
    int64_t count = 0;
    for (const torch::Tensor& parameter : parameters()) count += parameter.numel();
    return count;
  }

  /// Values per row at a site.   @throws ConfigError for a site this model does not have.
  int64_t width(const Site& site) const {
    check(site);
    switch (site.component) {
      case Component::head_attention_value_output: return config_.head_dim;
      case Component::attention_value_output:
      case Component::query_output: return config_.query_width();
      case Component::key_output:
      case Component::value_output: return config_.key_value_width();
      case Component::mlp_activation: return config_.intermediate_size;
      case Component::logits: return config_.vocab_size;
      default: return config_.hidden_size;
    }
  }

  /// @throws ConfigError for a site this model does not have.
  HookPoint& hook_point(const Site& site) {
    check(site);
    switch (site.component) {
      case Component::embedding_output: return embedding_output_;
      case Component::final_norm_output: return final_norm_output_;
      case Component::logits: return logits_;
      default: return *blocks_[*site.layer]->hook_point(site);
    }
  }

  // FORWARD

  /// The residual stream after the last block.
  /// @param input_ids  (N) int64 in 0..V-1.   @param cache  holds the past and takes this forward's keys and values.
  /// @return (N, D).   @throws ShapeError unless the layout describes exactly these rows, ragged.
  torch::Tensor hidden_states(const torch::Tensor& input_ids, const ForwardContext& context, KvCache* cache = nullptr) const {
    const Layout& layout = context.layout();
    check_shape("CausalLM", "input_ids", input_ids, {layout.num_tokens()});
    if (layout.is_padded()) fail<ShapeError>("CausalLM", "expected a ragged layout; padding is never computed here");
    if (cache != nullptr) cache->check_room(layout);
    torch::Tensor h = embedding_output_(at::embedding(embedding_, input_ids), context);
    const BlockInputs inputs{context, rotary_table(config_, layout, dtype()), cache};
    for (const auto& block : blocks_) h = block->forward(std::move(h), inputs);
    if (cache != nullptr) cache->advance(layout);
    return h;
  }

  /// Final norm of some rows.   @param rows  (S) int64, or undefined for all.   @return (S, D).
  torch::Tensor final_hidden(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows = {},
                             KvCache* cache = nullptr) const {
    torch::Tensor h = hidden_states(input_ids, context, cache);
    const auto norm = [this](const torch::Tensor& x) { return rms_norm(x, final_norm_, config_.rms_norm_eps); };
    if (!rows.defined()) return final_norm_output_(norm(h), context);
    // A hook sees all rows of its site, wanted or not.
    if (final_norm_output_.is_active(context)) return final_norm_output_(norm(h), context).index_select(0, rows);
    return norm(h.index_select(0, rows));
  }

  /// Logits of some rows.   @param rows  (S) int64, or undefined for all.   @return (S, V), dtype of the weights.
  torch::Tensor forward(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows = {},
                        KvCache* cache = nullptr) const {
    if (!logits_.is_active(context)) return at::linear(final_hidden(input_ids, context, rows, cache), head_);
    const torch::Tensor logits = logits_(at::linear(final_hidden(input_ids, context, {}, cache), head_), context);
    return rows.defined() ? logits.index_select(0, rows) : logits;
  }

  /// Σ −log p(target) over supervised rows, float32; (S, V) is never held whole unless something acts at `logits`.
  /// @param rows  (S) rows whose next token is supervised.   @param targets  (S) those tokens.
  torch::Tensor loss(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows,
                     const torch::Tensor& targets) const {
    if (!logits_.is_active(context)) return linear_cross_entropy(final_hidden(input_ids, context, rows), head_, targets);
    const torch::Tensor logits = forward(input_ids, context, rows).to(torch::kFloat32);
    return at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum);
  }

  // WEIGHTS

  /// Every tensor of the Hugging Face file and where it lies here; a tied head has no slot of its own.
  std::vector<WeightSlot> weight_slots() const {
    std::vector<WeightSlot> slots;
    add_slots(slots, embedding_, {{"model.embed_tokens.weight", config_.vocab_size}});
    for (const auto& block : blocks_) {
      const std::vector<WeightSlot> part = block->weight_slots();
      slots.insert(slots.end(), part.begin(), part.end());
    }
    add_slots(slots, final_norm_, {{"model.norm.weight", config_.hidden_size}});
    if (!config_.tie_word_embeddings) add_slots(slots, head_, {{"lm_head.weight", config_.vocab_size}});
    return slots;
  }

 private:
  void check(const Site& site) const {
    if (site.layer && (*site.layer < 0 || *site.layer >= config_.num_hidden_layers)) {
      fail<ConfigError>("CausalLM", "{}: layer {}, but the model has {} layers (0..{})", to_string(site), *site.layer,
                        config_.num_hidden_layers, config_.num_hidden_layers - 1);
    }
    if (site.head && (*site.head < 0 || *site.head >= config_.num_attention_heads)) {
      fail<ConfigError>("CausalLM", "{}: head {}, but the model has {} heads (0..{})", to_string(site), *site.head,
                        config_.num_attention_heads, config_.num_attention_heads - 1);
    }
    check_site(site);
  }

  TransformerConfig config_;
  torch::Tensor embedding_;   // (V, D)
  std::vector<std::shared_ptr<Block>> blocks_;
  torch::Tensor final_norm_;  // (D)
  torch::Tensor head_;        // (V, D); the embedding itself where tied
  HookPoint embedding_output_{{{}, Component::embedding_output, {}}};
  HookPoint final_norm_output_{{{}, Component::final_norm_output, {}}};
  HookPoint logits_{{{}, Component::logits, {}}};
};

/// Shared handle of a CausalLMImpl: copying it copies the handle, not the weights.
class CausalLM : public torch::nn::ModuleHolder<CausalLMImpl> {
 public:
  using torch::nn::ModuleHolder<CausalLMImpl>::ModuleHolder;
};

}  // namespace reft
