#include "reft/train/constant_prefix.hpp"

#include "reft/intervention/loreft.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/examples.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using Losses = std::vector<double>;
using reft::test::largest_difference;
using reft::test::relative_distance;

/// Seven answers to prompts of 2 to 8 tokens, two of them the same.
std::vector<reft::Example> late_examples() {
  std::vector<reft::Example> examples;
  for (int64_t i = 0; i < 7; ++i) {
    reft::Example example;
    example.prompt_length = 2 + i;
    for (int64_t j = 0; j < example.prompt_length + 2 + i % 3; ++j) example.input_ids.push_back((7 * i + 3 * j) % 50);
    example.labels = example.input_ids;
    std::fill_n(example.labels.begin(), example.prompt_length, reft::kIgnoredLabel);
    examples.push_back(std::move(example));
  }
  examples[2] = examples[5];
  return examples;
}

reft::RaggedBatch batch_of(const std::vector<reft::Example>& examples) {
  std::vector<const reft::Example*> chosen;
  for (const reft::Example& example : examples) chosen.push_back(&example);
  return reft::collate(chosen, torch::kCPU);
}

/// Edited in both layers.
Model model_at(const reft::CausalLM& base, const std::string& positions) {
  torch::manual_seed(5);
  Model model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = positions}, {.rank = 4});
  return model;
}

/// What a block can do with keys of the past: windows, soft caps, one position for each token, norms of queries and keys.
std::vector<reft::TransformerConfig> some_configs() {
  std::vector<reft::TransformerConfig> configs(4, reft::test::tiny_config());
  configs[1].layers = {{.window = 3}, {.rotary = reft::LayerSwitches::Rotary::none}};
  configs[2].attn_logit_softcapping = 5.0;
  configs[2].query_key_norm = configs[2].head_dim;
  configs[3].learned_positions = true;
  return configs;
}

Losses train(Model& model, const reft::Objective<reft::CausalLM>& objective) {
  reft::test::LossRecorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 3, .batch_size = 3, .learning_rate = 1e-2}, objective);
  trainer.add(recorder).fit(late_examples());
  return recorder.losses;
}

}  // namespace

TEST_CASE("over a constant prefix the loss and its gradients are those of all rows") {
  const reft::RaggedBatch batch = batch_of(late_examples());
  for (const reft::TransformerConfig& config : some_configs()) {
    for (const char* positions : {"l1", "l2", "-1", "3", "all"}) {
      INFO(positions);
      const reft::CausalLM base = reft::test::tiny_model(config);
      Model plain = model_at(base, positions), cached = model_at(base, positions);
      reft::ConstantPrefix prefix;
      const torch::Tensor expected = reft::language_modelling_loss(plain, batch), found = prefix.loss(cached, batch);
      CHECK(relative_distance(found, expected) < 1e-6);
      expected.backward();
      found.backward();
      const auto theirs = plain.parameters(), ours = cached.parameters();
      for (size_t i = 0; i < theirs.size(); ++i) CHECK(relative_distance(ours[i].grad(), theirs[i].grad()) < 1e-5);
      CHECK((prefix.num_computed() > 0) == (std::string(positions) != "all"));
    }
  }
}

TEST_CASE("training over constant prefixes has the losses it has without, repeats bit for bit, and computes each prefix once") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model plain = model_at(base, "l1"), cached = model_at(base, "l1"), again = model_at(base, "l1");
  reft::ConstantPrefix prefix, in_file({.memory_bytes = 0, .file_bytes = 1 << 20});
  const Losses expected = train(plain, &reft::language_modelling_loss<reft::CausalLM>), found = train(cached, prefix.objective());
  CHECK(largest_difference(found, expected) < 1e-6 * expected.front());
  CHECK(expected.back() < expected.front());
  CHECK(prefix.num_computed() == 6);  // of seven examples two are alike
  CHECK(train(again, in_file.objective()) == found);
  CHECK(in_file.bytes_in_memory() == 0);
}

TEST_CASE("a prefix ends before the first edited row, and before the first supervised one") {
  auto examples = late_examples();
  examples[0].labels[1] = 3;                                                               // the first row is supervised
  examples[1].labels.assign(examples[1].labels.size(), reft::kIgnoredLabel);               // nothing is, and ...
  examples[1].prompt_length = 0;                                                           // ... nothing is edited
  const Model model = model_at(reft::test::tiny_model(), "l2");
  const auto lengths = reft::ConstantPrefix::prefix_lengths(model.interventions(), batch_of(examples));
  CHECK(lengths == std::vector<int64_t>{0, std::ssize(examples[1].input_ids) - 1, 5, 3, 4, 5, 6});
}

TEST_CASE("where a user's hook waits, all rows are computed") {
  reft::CausalLM base = reft::test::tiny_model();
  Model model = model_at(base, "l1");
  const reft::RaggedBatch batch = batch_of(late_examples());
  for (const reft::Site& site : {reft::Site{{}, reft::Component::logits, {}}, reft::Site{1, reft::Component::mlp_output, {}}}) {
    const auto hook = base->hook_point(site).add([](torch::Tensor h, const reft::ForwardContext&) { return h * 2; });
    reft::ConstantPrefix prefix;
    CHECK(torch::equal(prefix.loss(model, batch), reft::language_modelling_loss(model, batch)));
    CHECK(prefix.num_computed() == 0);
  }
}
