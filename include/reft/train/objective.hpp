#pragma once

#include <torch/types.h>

#include <functional>

#include "reft/data/batch.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// What is minimized: the SUM of a loss over the supervised tokens of a batch, a scalar. The trainer divides once, by
/// the number of supervised tokens of the whole optimizer step. A user's own objective is one such function.
template <class Base>
using Objective = std::function<torch::Tensor(ReftModel<Base>& model, const RaggedBatch& batch)>;

/// A base that predicts the next token: `base->loss(input_ids, context, rows, targets)` sums −log p over rows.
template <class Base>
concept LanguageModel = HookedTransformer<Base> && requires(Base base, const torch::Tensor& t, const ForwardContext& context) {
  { base->loss(t, context, t, t) } -> std::same_as<torch::Tensor>;
};

/// Σ −log p(target | tokens before it), plus what the edits of the context add to the loss while they are trained.
template <LanguageModel Base>
torch::Tensor loss_in_context(const Base& base, const RaggedBatch& batch, const ForwardContext& context) {
  const torch::Tensor loss = base->loss(batch.input_ids, context, batch.target_rows, batch.targets);
  const torch::Tensor auxiliary = context.auxiliary_loss();
  return auxiliary.defined() ? loss + auxiliary : loss;
}

/// The same with the interventions of a model on.
template <LanguageModel Base>
torch::Tensor language_modelling_loss(ReftModel<Base>& model, const RaggedBatch& batch) {
  const ForwardContext context =
      model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
  return loss_in_context(model.base(), batch, context);
}

}  // namespace reft
