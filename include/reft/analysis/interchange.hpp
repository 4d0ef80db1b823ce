#pragma once

#include <torch/types.h>

#include "reft/analysis/mean_activation.hpp"
#include "reft/hook/source_run.hpp"
#include "reft/reft_model.hpp"

namespace reft {

/// Runs the plain base over `batch` and keeps what the interventions that need a source read of it.
/// A source that is itself edited: capture the sites in a context of your own and fill a SourceRun.
template <HookedTransformer Base>
SourceRun source_run(const ReftModel<Base>& model, const RaggedBatch& batch) {
  torch::NoGradGuard no_grad;
  ForwardContext context(batch.layout);
  for (const Attachment& attachment : model.interventions().attachments()) {
    if (!attachment.intervention->needs_source()) continue;
    for (const Site& site : attachment.sites) context.capture(site);
  }
  detail::run_for_activations(model.base(), batch, context);
  return {batch.layout, batch.prompt_lengths, context.activations(), batch.input_ids};
}

/// Logits over `batch` with its hidden states interchanged for those of `source`, as the attached `Interchange` and
/// `DistributedInterchange` say. Sequence i reads sequence i; the positions count in each prompt on its own, so "l1" is
/// the last token of both, however long they are.
///   model.attach<Interchange>({.layer = 3, .positions = "l1"});
///   logits = interchange(model, collate_prompts(base_prompts, device), collate_prompts(source_prompts, device));
/// @return (N, V).   @throws ShapeError if the batches differ in sequences, or a pair of prompts in the chosen rows.
template <HookedTransformer Base>
torch::Tensor interchange(const ReftModel<Base>& model, const RaggedBatch& batch, const RaggedBatch& source) {
  const SourceRun run = source_run(model, source);
  const auto& interventions = model.interventions();
  return model.base()->forward(
      batch.input_ids, interventions.prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids, &run));
}

/// Σ −log p(target) of `batch` under the interchange, what DAS minimizes: the targets are those of the causal model's own
/// interchange.   @throws as `interchange`.
template <LanguageModel Base>
torch::Tensor interchange_loss(const ReftModel<Base>& model, const RaggedBatch& batch, const RaggedBatch& source) {
  const SourceRun run = source_run(model, source);
  const auto& interventions = model.interventions();
  return loss_in_context(
      model.base(), batch, interventions.prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids, &run));
}

}  // namespace reft
