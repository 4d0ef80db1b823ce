#include "reft/generate/score.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/generation.hpp"

namespace {

using reft::test::kPrompts;
using reft::test::model_with;
using reft::test::Tokens;

}  // namespace

TEST_CASE("a continuation scores what generating it said") {
  const reft::CausalLM base = reft::test::tiny_model();
  std::vector<reft::GenerationRequest> requests;
  for (const char* phase : {"prompt", "every", "decode:3", "every:1:4"}) {
    requests.push_back({kPrompts[requests.size()], model_with(base, "f1+l1", reft::parse_phase(phase), 20 + requests.size()).adapter(), 0.8});
  }
  requests.push_back({kPrompts[2]});
  const auto generated = reft::generate(base, requests, {.max_new_tokens = 7, .sampling = {.temperature = 1.2}, .use_end_tokens = false, .log_probabilities = true});
  std::vector<Tokens> continuations;
  for (const auto& each : generated) continuations.push_back(each.tokens);
  const auto scores = reft::score(base, requests, continuations);
  REQUIRE(scores.size() == requests.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    REQUIRE(scores[i].size() == 7);
    for (size_t t = 0; t < 7; ++t) CHECK(scores[i][t] == Approx(generated[i].log_probabilities[t]).margin(1e-5));
  }
}

TEST_CASE("scores are the model's log-softmax, for one continuation of one prompt too") {
  auto model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const Tokens all{3, 14, 15, 9, 26, 5};
  torch::NoGradGuard no_grad;
  const torch::Tensor logits = model.forward(reft::Layout::ragged({6}), Tokens{4}, torch::tensor(all, torch::kInt64));
  const auto scores = reft::score(model, {3, 14, 15, 9}, {26, 5});
  REQUIRE(scores.size() == 2);
  CHECK(scores[0] == Approx(logits[3].log_softmax(0)[26].item<double>()).margin(1e-6));
  CHECK(scores[1] == Approx(logits[4].log_softmax(0)[5].item<double>()).margin(1e-6));
}

TEST_CASE("what cannot be scored is refused") {
  auto model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const auto text = [&](const Tokens& prompt, const Tokens& continuation) {
    return reft::test::error_text([&] { reft::score(model, prompt, continuation); });
  };
  CHECK(text({}, {1}) == "[reft::score] prompt 0: expected at least one token, got none");
  CHECK(text({1}, {}) == "[reft::score] continuation 0: expected at least one token, got none");
  CHECK(text({1}, {50}) == "[reft::score] continuation 0: token 50, but the model's vocabulary has 50 (0..49)");
  CHECK(reft::test::error_text([&] { reft::score(model.base(), std::vector<reft::GenerationRequest>{{{1}}}, {}); }) ==
        "[reft::score] expected one continuation per prompt, got 0 for 1");
}
