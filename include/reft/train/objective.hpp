#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "reft/data/batch.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// What an objective says of a batch: a sum over its terms, and over how many; the trainer divides once, by the number of
/// terms of the whole optimizer step.
struct BatchLoss {
  torch::Tensor sum;                                  ///< a scalar, with the graph that leads to it
  std::optional<int64_t> num_terms = {};              ///< sequences or pairs; absent: the supervised tokens of the batch
  std::map<std::string, torch::Tensor> metrics = {};  ///< sums over the same terms; their means are reported, larger ones are better

  /// A loss over the supervised tokens.
  BatchLoss(torch::Tensor sum) : sum(std::move(sum)) {}  // NOLINT(google-explicit-constructor): an objective may return a tensor
  BatchLoss(torch::Tensor sum, int64_t num_terms, std::map<std::string, torch::Tensor> metrics = {})
      : sum(std::move(sum)), num_terms(num_terms), metrics(std::move(metrics)) {}

  int64_t terms_in(const RaggedBatch& batch) const { return num_terms.value_or(batch.num_supervised()); }
};

/// What is minimized. A user's own objective is one such function; it returns the SUM of a loss over the supervised tokens
/// as a tensor, or a BatchLoss that says what it is a sum over.
template <class Base>
using Objective = std::function<BatchLoss(ReftModel<Base>& model, const RaggedBatch& batch)>;

/// A base that predicts the next token: `base->loss(input_ids, context, rows, targets)` sums −log p over rows.
template <class Base>
concept LanguageModel = HookedTransformer<Base> && requires(Base base, const torch::Tensor& t, const ForwardContext& context) {
  { base->loss(t, context, t, t) } -> std::same_as<torch::Tensor>;
};

/// A loss, and what the edits of the context add to it while they are trained.
inline torch::Tensor with_auxiliary_loss(const torch::Tensor& loss, const ForwardContext& context) {
  const torch::Tensor auxiliary = context.auxiliary_loss();
  return auxiliary.defined() ? loss + auxiliary : loss;
}

/// Σ −log p(target | tokens before it), plus what the edits of the context add to the loss while they are trained.
template <LanguageModel Base>
torch::Tensor loss_in_context(const Base& base, const RaggedBatch& batch, const ForwardContext& context) {
  return with_auxiliary_loss(base->loss(batch.input_ids, context, batch.target_rows, batch.targets), context);
}

/// The same with the interventions of a model on.
template <LanguageModel Base>
torch::Tensor language_modelling_loss(ReftModel<Base>& model, const RaggedBatch& batch) {
  const ForwardContext context =
      model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
  return loss_in_context(model.base(), batch, context);
}

}  // namespace reft
