#pragma once

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <vector>

#include "reft/model/transformer.hpp"
#include "reft/tensor/linear_cross_entropy.hpp"

namespace reft {

/// A decoder with a language-modelling head.
///   logits = W_head · final norm,   capped where the family does so
class CausalLMImpl : public TransformerImpl {
 public:
  explicit CausalLMImpl(const TransformerConfig& config, torch::TensorOptions options = torch::kFloat32)
      : TransformerImpl(config, options) {
    head_ = config.tie_word_embeddings
                ? embedding()
                : register_parameter("head", torch::empty({config.vocab_size, config.hidden_size}, options));
    freeze();
  }

  /// Logits of some rows.   @param rows  (S) int64, or undefined for all.   @return (S, V), dtype of the weights.
  torch::Tensor forward(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows = {},
                        KvCache* cache = nullptr) const {
    return logits_of([this](const torch::Tensor& hidden) { return head(hidden); }, input_ids, context, rows, cache);
  }

  /// Σ −log p(target) over supervised rows, float32; (S, V) is never held whole unless something acts at `logits`, or
  /// the family caps them.
  /// @param rows  (S) rows whose next token is supervised.   @param targets  (S) those tokens.
  torch::Tensor loss(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows,
                     const torch::Tensor& targets) const {
    if (!acts_at_logits(context) && config().final_logit_softcapping == 0.0) {
      return linear_cross_entropy(final_hidden(input_ids, context, rows), head_, targets);
    }
    const torch::Tensor logits = forward(input_ids, context, rows).to(torch::kFloat32);
    return at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum);
  }

  std::vector<WeightSlot> weight_slots() const override {
    std::vector<WeightSlot> slots = TransformerImpl::weight_slots();
    if (!config().tie_word_embeddings) slots.emplace_back(std::string(config().weights.language_head) + ".weight", head_);
    return slots;
  }

 protected:
  const char* model_name() const override { return "CausalLM"; }
  bool has(Component component) const override { return component == Component::logits || TransformerImpl::has(component); }

 private:
  torch::Tensor head(const torch::Tensor& hidden) const {
    torch::Tensor logits = at::linear(hidden, head_);
    const double cap = config().final_logit_softcapping;
    return cap > 0.0 ? (logits / cap).tanh() * cap : logits;
  }

  torch::Tensor head_;  // (V, D); the embedding itself where tied
};

/// Shared handle of a CausalLMImpl: copying it copies the handle, not the weights.
class CausalLM : public torch::nn::ModuleHolder<CausalLMImpl> {
 public:
  using torch::nn::ModuleHolder<CausalLMImpl>::ModuleHolder;
};

}  // namespace reft
