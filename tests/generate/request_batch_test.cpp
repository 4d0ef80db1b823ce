#include "reft/generate/request_batch.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/generation.hpp"

namespace {

using reft::GenerationRequest;
using reft::test::kPrompts;
using reft::test::model_with;
using reft::test::Tokens;

/// Adapters of one base, of all phases and kinds of position; the last request has none, the first comes twice, scaled.
std::vector<GenerationRequest> mixed_requests(const reft::CausalLM& base) {
  return {{kPrompts[0], model_with(base, "f1+l1", reft::Phase::prompt, 11).adapter()},
          {kPrompts[1], model_with(base, "all", reft::Phase::every, 12).adapter()},
          {kPrompts[2], model_with(base, "l1", reft::Phase::every.first_steps(3), 13).adapter(), 0.5},
          {kPrompts[3], model_with(base, "f1+l1", reft::Phase::prompt, 11).adapter(), -0.75},
          {kPrompts[0]}};
}

}  // namespace

TEST_CASE("requests of one batch with different adapters each have the logits and tokens of their run alone") {
  const reft::CausalLM base = reft::test::tiny_model();
  const std::vector<GenerationRequest> requests = mixed_requests(base);
  torch::NoGradGuard no_grad;
  reft::RequestBatch batch(base, requests, 6);
  std::vector<torch::Tensor> logits{batch.prefill()};
  std::vector<Tokens> fed;
  for (int step = 0; step < 5; ++step) {
    const torch::Tensor best = logits.back().argmax(1);
    fed.emplace_back(best.const_data_ptr<int64_t>(), best.const_data_ptr<int64_t>() + best.numel());
    logits.push_back(batch.step(fed.back()));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    reft::RequestBatch alone(base, std::span(&requests[i], 1), 6);
    torch::Tensor own = alone.prefill();
    for (size_t step = 0;; ++step) {
      CHECK(reft::test::relative_distance(logits[step][static_cast<int64_t>(i)], own[0]) < 1e-5);
      if (step == fed.size()) break;
      own = alone.step(Tokens{fed[step][i]});
    }
  }
  const auto together = reft::generate(base, requests, {.max_new_tokens = 10, .use_end_tokens = false});
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = reft::generate(base, std::span(&requests[i], 1), {.max_new_tokens = 10, .use_end_tokens = false});
    CHECK(together[i].tokens == alone[0].tokens);
  }
  CHECK(reft::test::relative_distance(logits[0][0], logits[0][4]) > 1e-3);  // one prompt, with and without an adapter
}

TEST_CASE("adapters are swapped without touching the base, and a scale of 0 is the base") {
  const reft::CausalLM base = reft::test::tiny_model();
  std::vector<torch::Tensor> before;
  for (const torch::Tensor& parameter : base->parameters()) before.push_back(parameter.clone());
  const std::vector<GenerationRequest> requests = mixed_requests(base);
  const auto answer = [&](const GenerationRequest& request) {
    const reft::GenerateOptions options{.max_new_tokens = 8, .use_end_tokens = false, .log_probabilities = true};
    return reft::generate(base, std::span(&request, 1), options)[0].log_probabilities;
  };
  const auto plain = answer({kPrompts[0]}), edited = answer(requests[0]);
  GenerationRequest off = requests[0];
  off.scale = 0.0;
  CHECK(answer(off) == plain);
  CHECK(answer({kPrompts[0]}) == plain);
  CHECK(edited != plain);
  for (size_t i = 0; i < before.size(); ++i) CHECK(torch::equal(before[i], base->parameters()[i]));
}

TEST_CASE("row scales belong to a request, also beside one that has none") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto adapter = model_with(base, "all", reft::Phase::every, 12).adapter();
  std::vector<GenerationRequest> requests{{kPrompts[0], adapter}, {kPrompts[0], adapter}, {kPrompts[0]}};
  requests[1].row_scales = torch::tensor({1.0, 0.0, 0.0, -1.0});
  torch::NoGradGuard no_grad;
  const torch::Tensor together = reft::RequestBatch(base, requests, 1).prefill();
  for (int64_t i = 0; i < 3; ++i) {
    const torch::Tensor alone = reft::RequestBatch(base, std::span(&requests[static_cast<size_t>(i)], 1), 1).prefill();
    CHECK(reft::test::relative_distance(together[i], alone[0]) < 1e-5);
  }
  CHECK(reft::test::relative_distance(together[0], together[1]) > 1e-3);
  requests[1].row_scales = torch::ones({2});
  CHECK(reft::test::error_text([&] { reft::RequestBatch(base, requests, 1).prefill(); }) ==
        "[reft::ReftModel] expected row scales (4) for loreft, got [2]");
}

TEST_CASE("adapters answer in evaluation mode and then train on, also where an answer fails") {
  reft::CausalLM base = reft::test::tiny_model();
  reft::ReftModel<reft::CausalLM> model(base);
  model.attach<reft::LoReFT>({.layer = 0}, {.rank = 2, .dropout = 0.5});
  model.train();
  const auto once = [&] { return reft::generate(model, {kPrompts[0]}, {.max_new_tokens = 6})[0].tokens; };
  CHECK(once() == once());
  CHECK(model.is_training());
  const auto handle = base->hook_point({.layer = 1}).add([](torch::Tensor h, const reft::ForwardContext&) -> torch::Tensor {
    throw reft::Error("stop here");
  });
  CHECK(reft::test::error_text(once) == "stop here");
  CHECK(model.is_training());
}

TEST_CASE("rows that are selected go on as they were, in any order and number") {
  const reft::CausalLM base = reft::test::tiny_model();
  const std::vector<GenerationRequest> requests = mixed_requests(base);
  torch::NoGradGuard no_grad;
  reft::RequestBatch batch(base, requests, 4), selected(base, requests, 4);
  batch.prefill();
  selected.prefill();
  const std::vector<int64_t> rows{3, 1, 1};
  selected.select(rows);
  CHECK(selected.size() == 3);
  const torch::Tensor expected = batch.step(Tokens{1, 2, 3, 4, 5}), found = selected.step(Tokens{4, 2, 7});
  CHECK(reft::test::relative_distance(found[0], expected[3]) < 1e-5);
  CHECK(reft::test::relative_distance(found[1], expected[1]) < 1e-5);
  CHECK(reft::test::relative_distance(found[2], expected[1]) > 1e-3);  // the same row, another token
}
