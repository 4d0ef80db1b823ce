#include "reft/analysis/diff_mean.hpp"

#include "reft/intervention/activation_addition.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using torch::Tensor;
using Prompts = std::vector<std::vector<int64_t>>;

const Prompts kWith{{1, 5, 9, 40}, {3, 10, 22}}, kWithout{{8, 4}, {2, 2, 49, 30}, {6}};

}  // namespace

TEST_CASE("DiffMean is the difference of the means, and adding it moves one mean onto the other") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::ActivationsOf what{.site = {.layer = 1}, .positions = "l1"};
  const Tensor v = reft::diff_mean(base, kWith, kWithout, what);
  const Tensor with = reft::mean_activation(base, kWith, what), without = reft::mean_activation(base, kWithout, what);
  CHECK(torch::equal(v, with - without));
  CHECK(v.abs().max().item<double>() > 1e-2);

  Model model(base);
  model.attach<reft::ActivationAddition>({.layer = 1, .positions = "l1"}, {.vector = v});
  torch::NoGradGuard no_grad;
  const reft::RaggedBatch batch = reft::collate_prompts(kWithout, torch::kCPU);
  reft::ForwardContext context = model.interventions().prompt_context(batch.layout, batch.prompt_lengths);
  context.capture(what.site);
  base->forward(batch.input_ids, context);
  const Tensor last = context.activations().at(what.site).index_select(0, torch::tensor({1, 5, 6}));
  CHECK(reft::test::relative_distance(last.mean(0), with) < 1e-5);
}
