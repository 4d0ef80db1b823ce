#include "reft/analysis/mean_activation.hpp"

#include "reft/analysis/diff_mean.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using reft::Component;
using reft::Site;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;
using Prompts = std::vector<std::vector<int64_t>>;

const Prompts kPrompts{{1, 5, 9, 40, 7}, {3, 10, 22}, {8}, {2, 2, 49, 30}};

/// The activation of one prompt run alone, (T, width) in float64.
Tensor activation(const reft::CausalLM& base, const std::vector<int64_t>& prompt, const Site& site) {
  torch::NoGradGuard no_grad;
  reft::ForwardContext context(reft::Layout::ragged({std::ssize(prompt)}));
  context.capture(site);
  base->forward(torch::tensor(prompt, torch::kInt64), context);
  return context.activations().at(site).to(torch::kFloat64);
}

}  // namespace

TEST_CASE("mean_activation is the mean over the chosen tokens of every prompt, in batches of any size") {
  const reft::CausalLM base = reft::test::tiny_model();
  const int64_t batch_size = GENERATE(1, 3, 16);
  for (const Site site : {Site{.layer = 0}, Site{.layer = 1, .component = Component::mlp_activation},
                          Site{.layer = 1, .component = Component::head_attention_value_output, .head = 2}, Site{.component = Component::logits}}) {
    INFO(to_string(site) << ", " << batch_size);
    Tensor all, last;
    for (const auto& prompt : kPrompts) {
      const Tensor h = activation(base, prompt, site);
      all = all.defined() ? torch::cat({all, h}) : h;
      last = last.defined() ? torch::cat({last, h.narrow(0, h.size(0) - 1, 1)}) : h.narrow(0, h.size(0) - 1, 1);
    }
    CHECK(all.size(0) == 13);
    CHECK(relative_distance(reft::mean_activation(base, kPrompts, {.site = site, .batch_size = batch_size}), all.mean(0)) < 1e-5);
    CHECK(relative_distance(reft::mean_activation(base, kPrompts, {.site = site, .positions = "l1", .batch_size = batch_size}), last.mean(0)) < 1e-5);
  }
}

TEST_CASE("mean_activation refuses what names no token, a site the base does not have, and malformed positions") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto refusal = [&](const Prompts& prompts, const reft::ActivationsOf& what) {
    return error_text([&] { reft::mean_activation(base, prompts, what); });
  };
  CHECK(refusal({}, {.site = {.layer = 0}}) == "[reft::mean_activation] layers.0.block_output: positions all name no token of 0 prompts");
  CHECK(refusal({{1, 2}}, {.site = {.layer = 0}, .positions = "7"}) ==
        "[reft::mean_activation] layers.0.block_output: positions 7 name no token of 1 prompts");
  CHECK(refusal(kPrompts, {.site = {.layer = 2}}) == "[reft::CausalLM] layers.2.block_output: layer 2, but the model has 2 layers (0..1)");
  CHECK(reft::test::contains(refusal(kPrompts, {.site = {.layer = 0}, .positions = "x"}), "[reft::parse_positions] \"x\": expected"));
  CHECK(reft::test::contains(refusal({{}}, {.site = {.layer = 0}}), "at least one"));
  CHECK(refusal(kPrompts, {.site = {.layer = 0}, .batch_size = 0}) == "[reft::mean_activation] expected a batch size >= 1, got 0");
}
