#pragma once

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/stack.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <numeric>
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

  /// Σ log p(target) over the supervised rows of each sequence, float32; as `loss`, (S, V) is never held whole.
  /// @param rows, targets  (S) as of `loss`, sequence by sequence.   @param counts  (B) how many of them are each one's.
  /// @return (B).   @throws ShapeError unless the counts add up to S.
  torch::Tensor log_probabilities(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows,
                                  const torch::Tensor& targets, const std::vector<int64_t>& counts) const {
    if (const int64_t sum = std::accumulate(counts.begin(), counts.end(), int64_t{0}); sum != rows.size(0)) {
      fail<ShapeError>(model_name(), "expected counts that add up to {} rows, got {}", rows.size(0), sum);
    }
    const bool in_parts = !acts_at_logits(context) && config().final_logit_softcapping == 0.0;
    const torch::Tensor values = in_parts ? final_hidden(input_ids, context, rows) : forward(input_ids, context, rows).to(torch::kFloat32);
    const std::vector<torch::Tensor> of_sequence = values.split_with_sizes(counts), wanted = targets.split_with_sizes(counts);
    std::vector<torch::Tensor> sums;
    for (size_t i = 0; i < counts.size(); ++i) {
      sums.push_back(in_parts ? linear_cross_entropy(of_sequence[i], head_, wanted[i])
                              : at::cross_entropy_loss(of_sequence[i], wanted[i], {}, at::Reduction::Sum));
    }
    return at::stack(sums).neg();
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
