#pragma once

#include "reft/model/loading.hpp"

namespace reft::test {

/// The smallest Llama with everything in it: grouped queries, tied embeddings, two blocks. The same weights every time.
inline TransformerConfig tiny_config() {
  TransformerConfig config;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 50;
  config.tie_word_embeddings = true;
  return config;
}

/// Weights ten times those of a fresh model: its logits then differ enough for a loss to fall and an argmax to be firm.
inline CausalLM tiny_model(TransformerConfig config = tiny_config()) {
  torch::manual_seed(1);
  CausalLM model(config);
  initialize(model);
  torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : model->parameters()) {
    if (parameter.dim() > 1) parameter.mul_(10.0);
  }
  return model;
}

}  // namespace reft::test
