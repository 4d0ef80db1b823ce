#include "reft/train/trunk_cache.hpp"

#include "reft/intervention/loreft.hpp"
#include "reft/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/examples.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using Losses = std::vector<double>;
using reft::Component;
using reft::test::largest_difference;
using reft::test::LossRecorder;
using reft::test::some_examples;

reft::CausalLM three_layers() {
  auto config = reft::test::tiny_config();
  config.num_hidden_layers = 3;
  return reft::test::tiny_model(config);
}

Model model_at(const reft::CausalLM& base, int layer, Component component = Component::block_output) {
  torch::manual_seed(5);
  Model model(base);
  model.attach<reft::LoReFT>({.layer = layer, .component = component, .positions = "f1+l1"}, {.rank = 4});
  return model;
}

Losses train(Model& model, const reft::Objective<reft::CausalLM>& objective) {
  LossRecorder recorder;
  reft::Trainer<reft::CausalLM> trainer(model, {.epochs = 3, .batch_size = 3, .learning_rate = 1e-2}, objective);
  trainer.add(recorder).fit(some_examples(7));
  return recorder.losses;
}

}  // namespace

TEST_CASE("with a cached trunk training has the losses it has without, and each example's trunk is computed once") {
  const reft::CausalLM base = three_layers();
  const std::vector<std::tuple<int, Component, int64_t>> places{
      {0, Component::block_output, 1}, {1, Component::block_output, 2}, {2, Component::block_output, 3},
      {1, Component::mlp_input, 1}, {2, Component::attention_value_output, 2}, {1, Component::block_input, 1}};
  for (const auto& [layer, component, num_blocks] : places) {
    CAPTURE(layer, to_string(component));
    Model plain = model_at(base, layer, component), cached = model_at(base, layer, component);
    reft::TrunkCache cache(cached);
    CHECK(cache.num_blocks() == num_blocks);
    const Losses expected = train(plain, &reft::language_modelling_loss<reft::CausalLM>);
    CHECK(largest_difference(train(cached, cache.objective()), expected) < 1e-6 * expected.front());
    CHECK(cache.num_computed() == 7);
    CHECK(expected.back() < expected.front());
  }
}

TEST_CASE("a cached run repeats bit for bit, whether states are in memory or in the file") {
  const reft::CausalLM base = three_layers();
  const auto run = [&](int64_t memory_bytes, int64_t file_bytes, int64_t num_computed = 7) {
    Model model = model_at(base, 1);
    reft::TrunkCache cache(model, {.memory_bytes = memory_bytes, .file_bytes = file_bytes});
    const Losses losses = train(model, cache.objective());
    CHECK(cache.bytes_in_memory() <= memory_bytes);
    CHECK(cache.num_computed() == num_computed);
    return losses;
  };
  constexpr int64_t kPlenty = 1 << 20;
  const Losses in_memory = run(kPlenty, 0);
  CHECK(run(kPlenty, 0) == in_memory);
  CHECK(run(0, kPlenty) == in_memory);
  CHECK(run(2000, kPlenty) == in_memory);
  CHECK(run(0, 0, 21) == in_memory);  // room for none: each of 7 examples in each of 3 epochs
}

TEST_CASE("gradients with a cached trunk are those without") {
  const reft::CausalLM base = three_layers();
  Model plain = model_at(base, 1), cached = model_at(base, 1);
  const auto examples = some_examples(7);
  const std::vector<const reft::Example*> chosen{&examples[0], &examples[3], &examples[5]};
  const reft::RaggedBatch batch = reft::collate(chosen, torch::kCPU);
  reft::TrunkCache cache(cached);
  reft::language_modelling_loss(plain, batch).backward();
  cache.loss(cached, batch).backward();
  const auto expected = plain.parameters(), found = cached.parameters();
  for (size_t i = 0; i < expected.size(); ++i) CHECK(reft::test::relative_distance(found[i].grad(), expected[i].grad()) < 1e-5);
}

TEST_CASE("where nothing can be skipped the objective is the plain one") {
  const reft::CausalLM base = three_layers();
  const auto examples = some_examples(7);
  const std::vector<const reft::Example*> chosen{&examples[0], &examples[3]};
  const reft::RaggedBatch batch = reft::collate(chosen, torch::kCPU);
  const auto is_plain = [&](Model& model) {
    reft::TrunkCache cache(model);
    const bool equal = torch::equal(cache.loss(model, batch), reft::language_modelling_loss(model, batch));
    return equal && cache.num_computed() == 0;
  };
  Model at_first = model_at(base, 0, Component::attention_input);
  CHECK(is_plain(at_first));
  Model above = model_at(base, 1);
  CHECK_FALSE(is_plain(above));
  reft::CausalLM same = base;
  const auto hook = same->hook_point({.layer = 0}).add([](torch::Tensor h, const reft::ForwardContext&) { return h * 2; });
  CHECK(is_plain(above));
}

TEST_CASE("the untouched blocks are those below the lowest edit") {
  Model model(three_layers());
  CHECK(reft::num_untouched_blocks(model.interventions().attachments(), 3) == 3);
  model.attach<reft::LoReFT>({.component = Component::final_norm_output, .positions = "l1"});
  CHECK(reft::num_untouched_blocks(model.interventions().attachments(), 3) == 3);
  model.attach<reft::LoReFT>({.layer = 2, .positions = "l1"});
  CHECK(reft::num_untouched_blocks(model.interventions().attachments(), 3) == 3);
  model.attach<reft::LoReFT>({.layer = 1, .component = Component::mlp_output, .positions = "l1"});
  CHECK(reft::num_untouched_blocks(model.interventions().attachments(), 3) == 1);
  model.attach<reft::LoReFT>({.component = Component::embedding_output, .positions = "l1"});
  CHECK(reft::num_untouched_blocks(model.interventions().attachments(), 3) == 0);
}
