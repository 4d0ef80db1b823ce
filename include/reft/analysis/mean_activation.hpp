#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "reft/data/batch.hpp"
#include "reft/train/objective.hpp"

namespace reft {

/// Which activations are taken, of which tokens.
struct ActivationsOf {
  Site site;
  std::string positions = "all";
  PositionRule position_rule = PositionRule::paper;
  int64_t batch_size = 16;  ///< prompts of one forward
};

namespace detail {

/// Runs the base for what its context captures. A language model is asked for the loss of one token, the least it does.
template <HookedTransformer Base>
void run_for_activations(const Base& base, const RaggedBatch& batch, const ForwardContext& context) {
  if constexpr (LanguageModel<Base>) {
    (void)base->loss(batch.input_ids, context, torch::zeros({1}, batch.input_ids.options()), batch.input_ids.narrow(0, 0, 1));
  } else {
    (void)base->forward(batch.input_ids, context);
  }
}

}  // namespace detail

/// The mean of an activation over the chosen tokens of all prompts, each token weighted alike.
/// @param prompts  token ids.   @return (width of the site), float32, on the base's device; sums are taken in float64.
/// @throws ConfigError for a site the base does not have, malformed positions or a batch size < 1; DataError for an empty
///   prompt, or if no token is chosen.
template <HookedTransformer Base>
torch::Tensor mean_activation(const Base& base, std::span<const std::vector<int64_t>> prompts, const ActivationsOf& what) {
  if (what.batch_size < 1) fail<ConfigError>("mean_activation", "expected a batch size >= 1, got {}", what.batch_size);
  torch::NoGradGuard no_grad;
  const Positions positions = Positions::parse(what.positions);
  const torch::Device device = base->parameters().front().device();
  torch::Tensor sum = torch::zeros({base->width(what.site)}, torch::TensorOptions(device).dtype(torch::kFloat64));
  int64_t count = 0;
  for (size_t first = 0; first < prompts.size(); first += what.batch_size) {
    const RaggedBatch batch = collate_prompts(prompts.subspan(first, std::min<size_t>(what.batch_size, prompts.size() - first)), device);
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < batch.layout.num_sequences(); ++i) {
      for (const int64_t position : positions.resolve(batch.prompt_lengths[i], what.position_rule)) {
        rows.push_back(batch.layout.start(i) + position);
      }
    }
    ForwardContext context(batch.layout);
    context.capture(what.site);
    detail::run_for_activations(base, batch, context);
    const torch::Tensor chosen = context.activations().at(what.site).index_select(0, torch::tensor(rows, torch::kInt64).to(device));
    sum += chosen.to(torch::kFloat64).sum(0);
    count += std::ssize(rows);
  }
  if (count == 0) fail<DataError>("mean_activation", "{}: positions {} name no token of {} prompts", to_string(what.site), what.positions, prompts.size());
  return (sum / static_cast<double>(count)).to(torch::kFloat32);
}

}  // namespace reft
