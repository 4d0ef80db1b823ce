#pragma once

#include <ATen/ops/cross_entropy_loss.h>
#include <torch/types.h>

#include <concepts>
#include <vector>

#include "reft/train/objective.hpp"

namespace reft {

/// A base that gives every sequence C scores: `base->forward(input_ids, context, token_types)` is (B, C).
template <class Base>
concept SequenceScorer = HookedTransformer<Base> && requires(Base base, const torch::Tensor& t, const ForwardContext& context) {
  { base->num_labels() } -> std::convertible_to<int64_t>;
  { base->forward(t, context, t) } -> std::same_as<torch::Tensor>;
};

namespace detail {

inline void check_sequence_labels(const char* function, const RaggedBatch& batch) {
  if (!batch.sequence_labels.defined()) fail<DataError>(function, "expected examples with a sequence_label, got none");
}

}  // namespace detail

/// The scores of a batch's sequences with the interventions of a context on, (B, C) float32.
template <SequenceScorer Base>
torch::Tensor scores_in_context(const Base& base, const RaggedBatch& batch, const ForwardContext& context) {
  return base->forward(batch.input_ids, context, batch.token_types).to(torch::kFloat32);
}

/// Σ −log softmax(scores)[class] over the sequences; their classes are the examples' `sequence_label`. Metric: accuracy.
///   model.train_head();   Trainer(model, options, &classification_loss<SequenceClassifier>).fit(examples);
/// @throws DataError for examples without a class, or one outside 0..C-1.
template <SequenceScorer Base>
BatchLoss classification_loss(ReftModel<Base>& model, const RaggedBatch& batch) {
  detail::check_sequence_labels("classification_loss", batch);
  const torch::Tensor classes = batch.sequence_labels.to(torch::kInt64);
  const int64_t C = model.base()->num_labels();
  if (!classes.ge(0).logical_and(classes.lt(C)).all().item<bool>()) {
    fail<DataError>("classification_loss", "expected classes in 0..{}, got {} to {}", C - 1, classes.min().item<int64_t>(), classes.max().item<int64_t>());
  }
  const ForwardContext context =
      model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
  const torch::Tensor scores = scores_in_context(model.base(), batch, context);
  return {with_auxiliary_loss(at::cross_entropy_loss(scores, classes, {}, at::Reduction::Sum), context), batch.layout.num_sequences(),
          {{"accuracy", scores.detach().argmax(1).eq(classes).sum()}}};
}

/// Σ (score − number)² over the sequences, whose numbers are the examples' `sequence_label`.
/// @throws DataError for examples without a number; ConfigError for a base with more than one score.
template <SequenceScorer Base>
BatchLoss regression_loss(ReftModel<Base>& model, const RaggedBatch& batch) {
  detail::check_sequence_labels("regression_loss", batch);
  if (model.base()->num_labels() != 1) fail<ConfigError>("regression_loss", "expected a base with one score, got {}", model.base()->num_labels());
  const ForwardContext context =
      model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
  const torch::Tensor errors = scores_in_context(model.base(), batch, context).squeeze(1) - batch.sequence_labels.to(torch::kFloat32);
  return {with_auxiliary_loss(errors.square().sum(), context), batch.layout.num_sequences()};
}

}  // namespace reft
