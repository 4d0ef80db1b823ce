#pragma once

#include <ATen/ops/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "reft/model/transformer.hpp"

namespace reft {

/// An encoder that fills masked tokens in.
///   logits = W_head norm( act(W_t h + b_t) ) + b_head,   W_head the embedding where tied
class MaskedLMImpl : public TransformerImpl {
 public:
  explicit MaskedLMImpl(const TransformerConfig& config, torch::TensorOptions options = torch::kFloat32)
      : TransformerImpl(config, options), activation_(activation_function(config.hidden_act)) {
    if (config.weights.masked_transform.empty()) {
      fail<ConfigError>("MaskedLM", "a {} has no masked-language head; expected an encoder", config.architecture);
    }
    const int64_t D = config.hidden_size;
    transform_ = register_parameter("transform", torch::empty({D, D}, options));
    transform_bias_ = register_parameter("transform_bias", torch::empty({D}, options));
    norm_ = register_module("transform_norm", std::make_shared<Norm>(config, D, options));
    head_ = config.tie_word_embeddings ? embedding() : register_parameter("head", torch::empty({config.vocab_size, D}, options));
    head_bias_ = register_parameter("head_bias", torch::empty({config.vocab_size}, options));
    freeze();
  }

  /// Logits of some rows.   @param rows  (S) int64, or undefined for all.   @return (S, V).
  torch::Tensor forward(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& rows = {},
                        const torch::Tensor& token_types = {}) const {
    return logits_of([this](const torch::Tensor& hidden) { return head(hidden); }, input_ids, context, rows, nullptr, token_types);
  }

  std::vector<WeightSlot> weight_slots() const override {
    const WeightNames& names = config().weights;
    std::vector<WeightSlot> slots = TransformerImpl::weight_slots();
    slots.emplace_back(std::string(names.masked_transform) + ".weight", transform_);
    slots.emplace_back(std::string(names.masked_transform) + ".bias", transform_bias_);
    norm_->add_slots(slots, std::string(names.masked_norm));
    if (!config().tie_word_embeddings) slots.emplace_back(std::string(names.language_head) + ".weight", head_);
    slots.emplace_back(std::string(names.masked_bias) + ".bias", head_bias_);
    return slots;
  }

 protected:
  const char* model_name() const override { return "MaskedLM"; }
  bool has(Component component) const override { return component == Component::logits || TransformerImpl::has(component); }

 private:
  torch::Tensor head(const torch::Tensor& hidden) const {
    return at::linear(norm_->forward(activation_(at::linear(hidden, transform_, transform_bias_))), head_, head_bias_);
  }

  ActivationFunction activation_;
  torch::Tensor transform_, transform_bias_;  // (D, D), (D)
  std::shared_ptr<Norm> norm_;
  torch::Tensor head_, head_bias_;            // (V, D), (V)
};

/// Shared handle of a MaskedLMImpl: copying it copies the handle, not the weights.
class MaskedLM : public torch::nn::ModuleHolder<MaskedLMImpl> {
 public:
  using torch::nn::ModuleHolder<MaskedLMImpl>::ModuleHolder;
};

}  // namespace reft
