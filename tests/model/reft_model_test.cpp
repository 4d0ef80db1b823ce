#include "reft/reft_model.hpp"

#include <torch/torch.h>

#include "reft/model/loading.hpp"
#include "support/catch.hpp"

namespace {

reft::CausalLM tiny_model() {
  torch::manual_seed(1);
  reft::TransformerConfig config;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 50;
  config.tie_word_embeddings = true;
  reft::CausalLM model(config);
  reft::initialize(model);
  return model;
}

}  // namespace

TEST_CASE("a hand-written loop with torch's AdamW learns and keeps R orthonormal under weight decay") {
  const reft::CausalLM base = tiny_model();
  reft::ReftModel model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = "f1+l1"}, {.rank = 4});
  CHECK(model.num_trainable_parameters() == 4 * (2 * 32 * 4 + 4));

  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(3e-2).weight_decay(0.01));
  const auto input_ids = torch::tensor({1, 5, 9, 40, 7, 3, 10, 22}, torch::kInt64);
  const auto rows = torch::tensor({3, 4, 5, 6}, torch::kInt64);
  const std::vector<int64_t> prompt_lengths{4};
  float first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const auto context = model.interventions().prompt_context(reft::Layout::ragged({8}), prompt_lengths);
    const auto loss = base->loss(input_ids, context, rows, input_ids.narrow(0, 4, 4)) / 4;
    loss.backward();
    optimizer.step();
    last = loss.item<float>();
    if (step == 0) first = last;
  }
  CHECK(last < 0.9f * first);
  for (const auto& intervention : model.interventions().interventions()) {
    CHECK(reft::orthonormality_error(intervention->state().at("R")) < 1e-5);
  }
}

TEST_CASE("a sequence alone gives the logits it has in a batch") {
  const reft::CausalLM base = tiny_model();
  torch::NoGradGuard no_grad;
  const auto a = torch::tensor({1, 5, 9}, torch::kInt64), b = torch::tensor({4, 8, 2, 7, 30}, torch::kInt64);
  const auto together = base->forward(torch::cat({a, b}), reft::ForwardContext(reft::Layout::ragged({3, 5})));
  const auto alone = base->forward(b, reft::ForwardContext(reft::Layout::ragged({5})));
  CHECK((together.narrow(0, 3, 5) - alone).abs().max().item<float>() < 1e-5f);
}
