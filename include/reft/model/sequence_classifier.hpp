#pragma once

#include <ATen/ops/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "reft/model/transformer.hpp"

namespace reft {

/// A transformer with one answer a sequence, as transformers' …ForSequenceClassification: an encoder reads its first
/// token, a decoder its last.
///   logits = W_c x + b_c,   x = act(W_t h + b_t) for an encoder, h itself for a decoder (which has no b_c either)
/// The logits have a row a sequence, not a token, so nothing acts there: this model has no site `logits`.
class SequenceClassifierImpl : public TransformerImpl {
 public:
  explicit SequenceClassifierImpl(const TransformerConfig& config, torch::TensorOptions options = torch::kFloat32)
      : TransformerImpl(config, options), activation_(activation_function(config.classifier_act)) {
    if (config.num_labels < 1) fail<ConfigError>("SequenceClassifier", "num_labels: expected 1 or more, got {}", config.num_labels);
    const int64_t D = config.hidden_size;
    if (!config.weights.classifier_transform.empty()) {
      transform_ = register_parameter("transform", torch::empty({D, D}, options));
      transform_bias_ = register_parameter("transform_bias", torch::empty({D}, options));
    }
    head_ = register_parameter("head", torch::empty({config.num_labels, D}, options));
    if (!config.causal) head_bias_ = register_parameter("head_bias", torch::empty({config.num_labels}, options));
    freeze();
  }

  int64_t num_labels() const { return config().num_labels; }

  /// @param input_ids  (N) of the layout's sequences.   @param token_types  (N) segments, or undefined: all 0.
  /// @return (B, labels).
  torch::Tensor forward(const torch::Tensor& input_ids, const ForwardContext& context, const torch::Tensor& token_types = {}) const {
    torch::Tensor h = final_hidden(input_ids, context, pooled_rows(context.layout()), nullptr, token_types);  // (B, D)
    h = h.to(head_.scalar_type());  // a trained head is wider than a base in bfloat16
    if (transform_.defined()) h = activation_(at::linear(h, transform_, transform_bias_));
    return at::linear(h, head_, head_bias_);
  }

  /// What a task trains beside the interventions.
  std::vector<torch::Tensor> head_parameters() const {
    std::vector<torch::Tensor> all;
    for (const torch::Tensor& parameter : {transform_, transform_bias_, head_, head_bias_}) {
      if (parameter.defined()) all.push_back(parameter);
    }
    return all;
  }

  std::vector<WeightSlot> head_slots() const override {
    const WeightNames& names = config().weights;
    std::vector<WeightSlot> slots;
    if (transform_.defined()) {
      slots.emplace_back(std::string(names.classifier_transform) + ".weight", transform_);
      slots.emplace_back(std::string(names.classifier_transform) + ".bias", transform_bias_);
    }
    slots.emplace_back(std::string(names.classifier) + ".weight", head_);
    if (head_bias_.defined()) slots.emplace_back(std::string(names.classifier) + ".bias", head_bias_);
    return slots;
  }

  std::vector<WeightSlot> weight_slots() const override {
    std::vector<WeightSlot> slots = TransformerImpl::weight_slots();
    append(slots, head_slots());
    return slots;
  }

 protected:
  const char* model_name() const override { return "SequenceClassifier"; }

 private:
  // (B) the first row of each sequence, or the last.
  torch::Tensor pooled_rows(const Layout& layout) const {
    const torch::Tensor& starts = layout.cu_seqlens();  // (B+1)
    const int64_t B = layout.num_sequences();
    return config().causal ? starts.narrow(0, 1, B).to(torch::kInt64) - 1 : starts.narrow(0, 0, B).to(torch::kInt64);
  }

  ActivationFunction activation_;
  torch::Tensor transform_, transform_bias_;  // (D, D), (D) or undefined
  torch::Tensor head_, head_bias_;            // (labels, D), (labels) or undefined
};

/// Shared handle of a SequenceClassifierImpl: copying it copies the handle, not the weights.
class SequenceClassifier : public torch::nn::ModuleHolder<SequenceClassifierImpl> {
 public:
  using torch::nn::ModuleHolder<SequenceClassifierImpl>::ModuleHolder;
};

}  // namespace reft
