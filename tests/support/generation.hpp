#pragma once

#include <string>
#include <vector>

#include "reft/generate/generate.hpp"
#include "reft/intervention/loreft.hpp"
#include "support/tiny_model.hpp"

namespace reft::test {

using Tokens = std::vector<int64_t>;

/// Prompts of any lengths for the tiny model.
inline const std::vector<Tokens> kPrompts{{3, 14, 15, 9, 26}, {5}, {35, 8, 9}, {7, 9, 32, 38, 46, 26, 43}};

/// The base with a LoReFT in both blocks.
inline ReftModel<CausalLM> model_with(const CausalLM& base, const std::string& positions, Phase phase, uint64_t seed = 5) {
  torch::manual_seed(seed);
  ReftModel<CausalLM> model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<LoReFT>({.layer = layer, .positions = positions, .phase = phase}, {.rank = 4});
  return model;
}

/// Greedy without a cache: the whole sequence again for every token.
inline Tokens greedy_uncached(ReftModel<CausalLM>& model, Tokens tokens, int64_t count) {
  torch::NoGradGuard no_grad;
  const Tokens prompt_lengths{std::ssize(tokens)};
  Tokens fresh;
  for (int64_t i = 0; i < count; ++i) {
    const torch::Tensor logits = model.forward(Layout::ragged({std::ssize(tokens)}), prompt_lengths, torch::tensor(tokens, torch::kInt64));
    tokens.push_back(logits[-1].argmax().item<int64_t>());
    fresh.push_back(tokens.back());
  }
  return fresh;
}

}  // namespace reft::test
