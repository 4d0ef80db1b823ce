#pragma once

#include <ATen/ops/embedding.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reft/model/block.hpp"
#include "reft/model/rope.hpp"
#include "reft/tensor/checks.hpp"

namespace reft {

/// A decoder or an encoder without a head, over flat token rows.
///   embed ─► block 0 ─► … ─► block L-1 ─► final norm, where there is one
/// Frozen unless its parameters are asked to require gradients; a forward changes nothing in it, so threads, models and
/// adapters may share one.
class TransformerImpl : public torch::nn::Module {
 public:
  // CONSTRUCTION

  /// Allocates the weights without values; see loading.hpp and `initialize`.
  explicit TransformerImpl(const TransformerConfig& config, torch::TensorOptions options = torch::kFloat32)
      : config_(config) {
    validate(config);
    const int64_t D = config.hidden_size;
    embedding_ = register_parameter("embedding", torch::empty({config.vocab_size, D}, options));
    if (config.learned_positions) {
      positions_ = register_parameter("positions", torch::empty({config.max_position_embeddings + config.position_offset, D}, options));
    }
    if (config.type_vocab_size > 0) token_types_ = register_parameter("token_types", torch::empty({config.type_vocab_size, D}, options));
    if (config.embedding_norm) embedding_norm_ = register_module("embedding_norm", std::make_shared<Norm>(config, D, options));
    for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
      blocks_.push_back(register_module("block" + std::to_string(layer), std::make_shared<Block>(config, layer, options)));
    }
    if (config.final_norm) final_norm_ = register_module("final_norm", std::make_shared<Norm>(config, D, options));
    freeze();
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

  /// Every site, in the order in which a forward reaches them.
  virtual std::vector<Site> sites() const {
    std::vector<Site> sites{{{}, Component::embedding_output, {}}};
    for (int layer = 0; layer < config_.num_hidden_layers; ++layer) {
      for (const Component component :
           {Component::block_input, Component::attention_input, Component::query_output, Component::key_output, Component::value_output,
            Component::attention_value_output, Component::attention_output, Component::mlp_input, Component::mlp_activation,
            Component::mlp_output, Component::block_output}) {
        if (has(component)) sites.push_back({layer, component, {}});
        if (component != Component::attention_value_output) continue;
        for (int head = 0; head < config_.num_attention_heads; ++head) {
          sites.push_back({layer, Component::head_attention_value_output, head});
        }
      }
    }
    if (has(Component::final_norm_output)) sites.push_back({{}, Component::final_norm_output, {}});
    if (has(Component::logits)) sites.push_back({{}, Component::logits, {}});
    return sites;
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
  /// @param input_ids    (N) int64 in 0..V-1.   @param cache  holds the past and takes this forward's keys and values.
  /// @param token_types  (N) int64 segments of an encoder's input, or undefined: all 0.
  /// @param rows         (S) int64, distinct, the rows wanted, or undefined: all.
  /// @return (N, D), or (S, D).   @throws ShapeError unless the layout describes exactly these rows, ragged.
  torch::Tensor hidden_states(const torch::Tensor& input_ids, const ForwardContext& context, KvCache* cache = nullptr,
                              const torch::Tensor& token_types = {}, const torch::Tensor& rows = {}) const {
    const Layout& layout = context.layout();
    check_shape(model_name(), "input_ids", input_ids, {layout.num_tokens()});
    if (layout.is_padded()) fail<ShapeError>(model_name(), "expected a ragged layout; padding is never computed here");
    if (cache != nullptr) cache->check_room(layout);
    if (cache != nullptr && context.num_skipped_blocks() > 0) fail<ConfigError>(model_name(), "a forward that skips blocks cannot fill a cache");
    const auto first = static_cast<size_t>(context.num_skipped_blocks());
    torch::Tensor h = first == 0 ? embedding_output_(embedded(input_ids, token_types, layout), context)
                                 : blocks_.at(first - 1)->output(context.begin(), context);
    const BlockInputs inputs{context, global_rotary(layout), local_rotary(layout), cache};
    const bool selects = rows.defined() && rows.size(0) < layout.num_tokens();
    const bool early = selects && first < blocks_.size() && blocks_.back()->can_select_rows(context);
    for (size_t i = first; i < blocks_.size(); ++i) {
      h = blocks_[i]->forward(std::move(h), inputs, early && i + 1 == blocks_.size() ? rows : torch::Tensor());
    }
    if (cache != nullptr) cache->advance(layout);
    return rows.defined() && !early ? h.index_select(0, rows) : h;
  }

  /// What the first `num_blocks` blocks give before anything acts at the last one's output: where a forward may begin again
  /// (`ForwardContext::begin_after`).   @return (N, D), without a graph.
  torch::Tensor trunk(const torch::Tensor& input_ids, const Layout& layout, int64_t num_blocks) const {
    torch::NoGradGuard no_grad;
    const ForwardContext plain(layout);
    const BlockInputs inputs{plain, global_rotary(layout), local_rotary(layout), nullptr};
    torch::Tensor h = embedded(input_ids, {}, layout);
    for (int64_t i = 0; i < num_blocks; ++i) h = blocks_.at(static_cast<size_t>(i))->forward(std::move(h), inputs);
    return h;
  }

  /// Whether a user's hook waits in the first `num_blocks` blocks, or before them.
  bool has_hooks_below(int64_t num_blocks) const {
    const ForwardContext nothing{Layout()};
    const std::vector<Site> all = sites();
    return embedding_output_.is_active(nothing) || std::any_of(all.begin(), all.end(), [&](const Site& site) {
      const bool at_begin = site.layer == static_cast<int>(num_blocks) - 1 && site.component == Component::block_output;
      return site.layer && *site.layer < num_blocks && !at_begin && blocks_[*site.layer]->hook_point(site)->is_active(nothing);
    });
  }

  /// Whether a user's hook waits anywhere.
  bool has_hooks() const {
    const ForwardContext nothing{Layout()};
    return has_hooks_below(num_layers() + 1) || final_norm_output_.is_active(nothing) || logits_.is_active(nothing);
  }

  /// Final norm of some rows; where the family has none, the rows as the last block returns them.
  /// @param rows  (S) int64, distinct, or undefined for all.   @return (S, D).
  torch::Tensor final_hidden(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows = {},
                             KvCache* cache = nullptr, const torch::Tensor& token_types = {}) const {
    if (!final_norm_) return hidden_states(input_ids, context, cache, token_types, rows);
    if (!final_norm_output_.is_active(context)) return final_norm_->forward(hidden_states(input_ids, context, cache, token_types, rows));
    // A hook sees all rows of its site, wanted or not.
    const torch::Tensor all = final_norm_output_(final_norm_->forward(hidden_states(input_ids, context, cache, token_types)), context);
    return rows.defined() ? all.index_select(0, rows) : all;
  }

  /// What a model without a head gives: the last hidden states, (N, D).
  torch::Tensor forward(const torch::Tensor& input_ids, const ForwardContext& context) const {
    return final_hidden(input_ids, context);
  }

  // WEIGHTS

  /// Keeps the matrices of the blocks in fewer bits from now on: they cannot be saved, nor trained, any more. Embeddings, norms,
  /// biases, a mixture's router and the heads stay as they are.   @param kind  int8 or nf4.
  void quantize(Quantization kind) {
    torch::NoGradGuard no_grad;
    for (const auto& module : modules(/*include_self=*/false)) {
      if (auto* linear = dynamic_cast<Linear*>(module.get())) linear->quantize(kind);
    }
  }

  /// The part of `weight_slots` that a base model need not have and a task may begin anew.
  virtual std::vector<WeightSlot> head_slots() const { return {}; }

  /// Every tensor of the Hugging Face file and where it lies here; a tied head has no slot of its own.
  virtual std::vector<WeightSlot> weight_slots() const {
    const WeightNames& names = config_.weights;
    const auto name = [&](std::string_view part) { return std::string(names.base) + std::string(part); };
    std::vector<WeightSlot> slots;
    slots.emplace_back(name(names.embedding) + ".weight", embedding_);
    if (positions_.defined()) slots.emplace_back(name(names.positions) + ".weight", positions_);
    if (token_types_.defined()) slots.emplace_back(name(names.token_types) + ".weight", token_types_);
    if (embedding_norm_) embedding_norm_->add_slots(slots, name(names.embedding_norm));
    for (const auto& block : blocks_) append(slots, block->weight_slots());
    if (final_norm_) final_norm_->add_slots(slots, name(names.final_norm));
    return slots;
  }

 protected:
  /// Names the class in error texts.
  virtual const char* model_name() const { return "Transformer"; }

  /// Whether there is such a site in every layer, or in the model.
  virtual bool has(Component component) const {
    if (component == Component::final_norm_output) return config_.final_norm;
    if (component == Component::mlp_activation) return config_.num_experts == 0;  // each token has several
    return component != Component::logits;
  }

  void freeze() {
    for (torch::Tensor& parameter : parameters()) parameter.requires_grad_(false);
  }

  const torch::Tensor& embedding() const { return embedding_; }

  bool acts_at_logits(const ForwardContext& context) const { return logits_.is_active(context); }

  /// A head's logits of some rows; where something acts at `logits`, of all rows first.
  /// @param head  (S, D) to (S, V).   @param rows  (S) int64, or undefined for all.   @return (S, V).
  template <class Head>
  torch::Tensor logits_of(const Head& head, const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows,
                          KvCache* cache, const torch::Tensor& token_types = {}) const {
    if (!acts_at_logits(context)) return head(final_hidden(input_ids, context, rows, cache, token_types));
    const torch::Tensor logits = logits_(head(final_hidden(input_ids, context, {}, cache, token_types)), context);
    return rows.defined() ? logits.index_select(0, rows) : logits;
  }

 private:
  torch::Tensor embedded(const torch::Tensor& input_ids, const torch::Tensor& token_types, const Layout& layout) const {
    torch::Tensor h = at::embedding(embedding_, input_ids);
    // The scale is rounded to the dtype first, as transformers does.
    if (config_.embedding_scale != 1.0) h = h * torch::full({}, config_.embedding_scale, h.options());
    if (token_types_.defined()) {
      h = h + (token_types.defined() ? at::embedding(token_types_, token_types) : token_types_.narrow(0, 0, 1));
    }
    if (positions_.defined()) {
      check_context(layout);
      h = h + at::embedding(positions_, layout.position_ids() + config_.position_offset);
    }
    return embedding_norm_ ? embedding_norm_->forward(h) : h;
  }

  void check_context(const Layout& layout) const {
    for (int64_t i = 0; i < layout.num_sequences(); ++i) {
      const int64_t length = layout.past_length(i) + layout.length(i);
      if (length <= config_.max_position_embeddings) continue;
      fail<ShapeError>(model_name(), "sequence {}: expected at most {} tokens, for which the model has positions, got {}", i,
                       config_.max_position_embeddings, length);
    }
  }

  RotaryTable global_rotary(const Layout& layout) const {
    return config_.has_rotary() ? rotary_table(config_, layout, dtype()) : RotaryTable{};
  }

  RotaryTable local_rotary(const Layout& layout) const {
    const bool needed = std::any_of(config_.layers.begin(), config_.layers.end(),
                                    [](const LayerSwitches& layer) { return layer.rotary == LayerSwitches::Rotary::local; });
    return needed ? local_rotary_table(config_, layout, dtype()) : RotaryTable{};
  }

  void check(const Site& site) const {
    if (site.layer && (*site.layer < 0 || *site.layer >= config_.num_hidden_layers)) {
      fail<ConfigError>(model_name(), "{}: layer {}, but the model has {} layers (0..{})", to_string(site), *site.layer,
                        config_.num_hidden_layers, config_.num_hidden_layers - 1);
    }
    if (site.head && (*site.head < 0 || *site.head >= config_.num_attention_heads)) {
      fail<ConfigError>(model_name(), "{}: head {}, but the model has {} heads (0..{})", to_string(site), *site.head,
                        config_.num_attention_heads, config_.num_attention_heads - 1);
    }
    check_site(site);
    if (!has(site.component)) {
      fail<ConfigError>(model_name(), "{}: a {} has no such site", to_string(site), config_.architecture);
    }
  }

  TransformerConfig config_;
  torch::Tensor embedding_;                // (V, D)
  torch::Tensor positions_, token_types_;  // (positions, D), (segments, D) or undefined
  std::shared_ptr<Norm> embedding_norm_, final_norm_;  // or none
  std::vector<std::shared_ptr<Block>> blocks_;
  HookPoint embedding_output_{{{}, Component::embedding_output, {}}};
  HookPoint final_norm_output_{{{}, Component::final_norm_output, {}}};
  HookPoint logits_{{{}, Component::logits, {}}};  // of models with a head
};

/// Shared handle of a TransformerImpl: copying it copies the handle, not the weights.
class Transformer : public torch::nn::ModuleHolder<TransformerImpl> {
 public:
  using torch::nn::ModuleHolder<TransformerImpl>::ModuleHolder;
};

}  // namespace reft
