#include "reft/analysis/interchange.hpp"

#include <thread>

#include "reft/train/optimizer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::error_text;
using reft::test::relative_distance;
using torch::Tensor;
using Prompts = std::vector<std::vector<int64_t>>;

const Prompts kBase{{1, 5, 9, 40, 7}, {3, 10, 22}}, kSource{{8, 4, 30}, {2, 2, 49, 30, 17, 6}};

reft::RaggedBatch batch_of(const Prompts& prompts) { return reft::collate_prompts(prompts, torch::kCPU); }

Tensor hidden(const reft::CausalLM& base, const reft::RaggedBatch& batch, const reft::Site& site) {
  reft::ForwardContext context(batch.layout);
  context.capture(site);
  base->forward(batch.input_ids, context);
  return context.activations().at(site);
}

/// Logits with the rows written by hand, by a user's hook.
Tensor by_hand(reft::CausalLM base, const reft::RaggedBatch& batch, const reft::Site& site, std::function<Tensor(const Tensor&)> edit) {
  const auto handle = base->hook_point(site).add([&](Tensor h, const reft::ForwardContext&) { return edit(h); });
  return base->forward(batch.input_ids, reft::ForwardContext(batch.layout));
}

}  // namespace

TEST_CASE("interchange gives the base the source's hidden states at the same positions of prompts of other lengths") {
  torch::NoGradGuard no_grad;
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  model.attach<reft::Interchange>({.layer = 0, .positions = "f1+l1"});
  const auto batch = batch_of(kBase), source = batch_of(kSource);
  const Tensor s = hidden(base, source, {.layer = 0});
  const Tensor expected = by_hand(base, batch, {.layer = 0}, [&](const Tensor& h) {
    return h.index_copy(0, torch::tensor({0, 4, 5, 7}), s.index_select(0, torch::tensor({0, 2, 3, 8})));
  });
  CHECK(relative_distance(reft::interchange(model, batch, source), expected) < 1e-5);
  CHECK(relative_distance(base->forward(batch.input_ids, reft::ForwardContext(batch.layout)), expected) > 1e-2);
}

TEST_CASE("after an interchange of everything at the last block the base says what the source says") {
  torch::NoGradGuard no_grad;
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  model.attach<reft::Interchange>({.layer = 1, .positions = "all"});
  const auto batch = batch_of({{1, 5, 9, 40, 7}}), source = batch_of({{2, 2, 49, 30, 17}});
  CHECK(torch::equal(reft::interchange(model, batch, source), base->forward(source.input_ids, reft::ForwardContext(source.layout))));
  CHECK(torch::equal(reft::interchange(model, batch, batch), base->forward(batch.input_ids, reft::ForwardContext(batch.layout))));
}

TEST_CASE("an interchange of a subspace, at a head, beside an edit that needs no source") {
  torch::NoGradGuard no_grad;
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  const reft::Site head{.layer = 1, .component = reft::Component::head_attention_value_output, .head = 2};
  torch::manual_seed(4);
  const auto das = model.attach<reft::DAS>({.layer = 1, .component = head.component, .head = 2, .positions = "l1"}, {.rank = 3}).front();
  model.attach<reft::ZeroAblation>({.layer = 1, .component = head.component, .head = 2, .positions = "f1"});
  const auto batch = batch_of(kBase), source = batch_of(kSource);
  const Tensor s = hidden(base, source, head).index_select(0, torch::tensor({2, 8})), R = das->state().at("R"), last = torch::tensor({4, 7});
  const Tensor expected = by_hand(base, batch, head, [&](const Tensor& h) {
    const Tensor own = h.index_select(0, last);
    return h.index_fill(0, torch::tensor({0, 5}), 0).index_copy(0, last, own + (s - own).matmul(R.t()).matmul(R));
  });
  CHECK(relative_distance(reft::interchange(model, batch, source), expected) < 1e-5);
  CHECK(reft::source_run(model, source).activations.size() == 1);
}

TEST_CASE("a source that is itself edited is captured by hand") {
  torch::NoGradGuard no_grad;
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base), edited(base);
  model.attach<reft::Interchange>({.layer = 1, .positions = "l1"});
  edited.attach<reft::ZeroAblation>({.layer = 0, .positions = "f1"});
  const auto batch = batch_of(kBase), source = batch_of(kSource);
  reft::ForwardContext context = edited.interventions().prompt_context(source.layout, source.prompt_lengths);
  context.capture({.layer = 1});
  base->forward(source.input_ids, context);
  const reft::SourceRun run{source.layout, source.prompt_lengths, context.activations(), {}};
  const Tensor logits = base->forward(batch.input_ids, model.interventions().prompt_context(batch.layout, batch.prompt_lengths, {}, {}, &run));
  const Tensor expected = by_hand(base, batch, {.layer = 1}, [&](const Tensor& h) {
    return h.index_copy(0, torch::tensor({4, 7}), run.activations.at({.layer = 1}).index_select(0, torch::tensor({2, 8})));
  });
  CHECK(relative_distance(logits, expected) < 1e-5);
  CHECK(relative_distance(logits, reft::interchange(model, batch, source)) > 1e-3);
}

TEST_CASE("one model serves interchanges with different sources at once") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  model.attach<reft::Interchange>({.layer = 0, .positions = "l1"});
  const auto batch = batch_of(kBase);
  const std::vector<reft::RaggedBatch> sources{batch_of(kSource), batch_of({{11}, {12, 13}})};
  std::vector<Tensor> expected;
  {
    torch::NoGradGuard no_grad;
    for (const auto& source : sources) expected.push_back(reft::interchange(model, batch, source));
  }
  CHECK(relative_distance(expected[0], expected[1]) > 1e-2);
  std::vector<int> equal(2, 0);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      torch::NoGradGuard no_grad;
      for (int repeat = 0; repeat < 20; ++repeat) equal[i] += torch::equal(reft::interchange(model, batch, sources[i]), expected[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == std::vector<int>{20, 20});
}

TEST_CASE("das learns a subspace whose interchange changes the answer, and R stays orthonormal") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  torch::manual_seed(4);
  const auto das = model.attach<reft::DAS>({.layer = 0, .positions = "l1"}, {.rank = 2}).front();
  // The label is what the source, run alone, says after its last token.
  const auto source = batch_of(kSource);
  torch::NoGradGuard no_grad;
  const Tensor says = base->forward(source.input_ids, reft::ForwardContext(source.layout), torch::tensor({2, 8})).argmax(1);
  reft::RaggedBatch batch = batch_of(kBase);
  batch.target_rows = torch::tensor({4, 7});
  batch.targets = says;
  const double before = reft::interchange_loss(model, batch, source).item<double>();
  {
    torch::AutoGradMode enable_grad(true);
    reft::Optimizer optimizer(model.interventions().interventions(), {.learning_rate = 0.02});
    for (int step = 0; step < 100; ++step) {
      optimizer.zero_grad();
      reft::interchange_loss(model, batch, source).backward();
      optimizer.step();
    }
  }
  const double after = reft::interchange_loss(model, batch, source).item<double>();
  CHECK(after < 0.5 * before);
  CHECK(reft::orthonormality_error(das->state().at("R")) < 1e-5);
  CHECK(torch::equal(reft::interchange(model, batch, source).index_select(0, batch.target_rows).argmax(1), says));
}

TEST_CASE("an interchange without a source, or with one that does not pair off, is refused") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model model(base);
  model.attach<reft::Interchange>({.layer = 0, .positions = "f2"});
  const auto batch = batch_of(kBase);
  const auto refusal = [&](const Prompts& source) { return error_text([&] { reft::interchange(model, batch, batch_of(source)); }); };
  CHECK(error_text([&] { model.forward(batch.layout, batch.prompt_lengths, batch.input_ids); }) ==
        "[reft::interchange] no source run was given; call interchange(model, base, source), or make the context with a SourceRun");
  // f2 is one token of a prompt of three.
  CHECK(refusal({{8, 4, 30}, {2, 2, 49}}) ==
        "[reft::interchange] layers.0.block_output: its positions are 3 rows of the batch and 2 of the source run; prompts pair off one by one");
  CHECK(refusal({{8, 4, 30}, {2, 2, 49, 1}}) ==
        "[reft::interchange] layers.0.block_output: its positions are 3 rows of the batch and 3 of the source run; prompts pair off one by one");
  CHECK(reft::test::contains(refusal({{8, 4, 30, 1}}), "3 rows of the batch and 2 of the source run"));
  const reft::SourceRun empty{batch.layout, batch.prompt_lengths, {}, {}}, unequal{batch.layout, {5}, {}, {}};
  CHECK(error_text([&] { model.interventions().prompt_context(batch.layout, batch.prompt_lengths, {}, {}, &empty); }) ==
        "[reft::interchange] layers.0.block_output: the source run did not capture this site");
  CHECK(error_text([&] { model.interventions().prompt_context(batch.layout, batch.prompt_lengths, {}, {}, &unequal); }) ==
        "[reft::ReftModel] expected 2 prompt lengths, got 1");
}
