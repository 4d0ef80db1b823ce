#pragma once

#include <torch/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "reft/analysis/mean_activation.hpp"

namespace reft {

/// DiffMean: mean(activations of positive prompts) − mean(activations of negative prompts), a direction in which a
/// concept grows. To steer with it:
///   model.attach<ActivationAddition>({.layer = 9, .positions = "all", .phase = Phase::every},
///                                    {.vector = diff_mean(base, with, without, {.site = {.layer = 9}}), .alpha = 2});
/// @return (width of the site), float32.   @throws as `mean_activation`.
/// Ref: Marks and Tegmark 2023, arXiv:2310.06824; a baseline of AxBench, arXiv:2501.17148.
template <HookedTransformer Base>
torch::Tensor diff_mean(const Base& base, std::span<const std::vector<int64_t>> positive,
                        std::span<const std::vector<int64_t>> negative, const ActivationsOf& what) {
  return mean_activation(base, positive, what) - mean_activation(base, negative, what);
}

}  // namespace reft
