#pragma once

#include <torch/types.h>

#include <string>

#include "reft/train/objective.hpp"

namespace reft {

/// Where the numbers of a batch went wrong first, in words: runs it again with every block's output captured.
template <HookedTransformer Base>
std::string where_not_finite(ReftModel<Base>& model, const RaggedBatch& batch) {
  constexpr bool kGivesStates = requires(const ForwardContext& context) { model.base()->hidden_states(batch.input_ids, context); };
  if constexpr (LanguageModel<Base> || kGivesStates) {
    torch::NoGradGuard no_grad;
    ForwardContext context = model.interventions().prompt_context(batch.layout, batch.prompt_lengths, batch.row_scales, batch.input_ids);
    const auto num_layers = static_cast<int>(model.base()->num_layers());
    for (int layer = 0; layer < num_layers; ++layer) context.capture({.layer = layer});
    if constexpr (kGivesStates) (void)model.base()->hidden_states(batch.input_ids, context);
    else (void)model.base()->loss(batch.input_ids, context, batch.target_rows, batch.targets);
    for (const auto& [site, activation] : context.activations()) {
      if (activation.isfinite().all().template item<bool>()) continue;
      return fmt::format("the first value that is not finite stands at {}", to_string(site));
    }
  }
  return "every block's output is finite, so the loss itself or its gradient is not";
}

}  // namespace reft
