#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "reft/hook/layout.hpp"
#include "reft/hook/site.hpp"

namespace reft {

/// Activations of one run for the edits of another: what `ForwardContext::capture` kept, and how its prompts lie.
/// Its prompts pair off with those of the run that reads it; their lengths may differ.
struct SourceRun {
  Layout layout;                              // B sequences in N rows
  std::vector<int64_t> prompt_lengths;        // (B) tokens over which positions are laid
  std::map<Site, torch::Tensor> activations;  // (N, width) per site
  torch::Tensor input_ids = {};               // (N), for interventions that act on certain tokens
};

}  // namespace reft
