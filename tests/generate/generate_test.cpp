#include "reft/generate/generate.hpp"

#include "reft/intervention/loreft.hpp"
#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using Tokens = std::vector<int64_t>;

Model model_with(const reft::CausalLM& base, std::string positions, reft::Phase phase) {
  torch::manual_seed(5);
  Model model(base);
  for (int layer = 0; layer < 2; ++layer) model.attach<reft::LoReFT>({.layer = layer, .positions = positions, .phase = phase}, {.rank = 4});
  return model;
}

/// Greedy without a cache: the whole sequence again for every token, with the edits of the prompt alone.
Tokens greedy_uncached(Model& model, Tokens tokens, int64_t count) {
  torch::NoGradGuard no_grad;
  const Tokens prompt_lengths{std::ssize(tokens)};
  Tokens fresh;
  for (int64_t i = 0; i < count; ++i) {
    const torch::Tensor logits = model.forward(reft::Layout::ragged({std::ssize(tokens)}), prompt_lengths, torch::tensor(tokens, torch::kInt64));
    tokens.push_back(logits[-1].argmax().item<int64_t>());
    fresh.push_back(tokens.back());
  }
  return fresh;
}

const std::vector<Tokens> kPrompts{{3, 14, 15, 9, 26}, {5}, {35, 8, 9}, {7, 9, 32, 38, 46, 26, 43}};

}  // namespace

TEST_CASE("cached greedy decoding gives the uncached tokens, alone and in a ragged batch") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const auto together = reft::generate(model, kPrompts, {.max_new_tokens = 12, .use_end_tokens = false});
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto alone = reft::generate(model, {kPrompts[i]}, {.max_new_tokens = 12, .use_end_tokens = false});
    CHECK(alone[0].tokens == greedy_uncached(model, kPrompts[i], 12));
    CHECK(together[i].tokens == alone[0].tokens);
    CHECK(together[i].finish_reason == reft::FinishReason::length);
  }
}

TEST_CASE("interventions of phase prompt add nothing to a decoding step; others act there") {
  const reft::CausalLM base = reft::test::tiny_model();
  const reft::Layout layout = reft::Layout::ragged({1}, torch::kCPU, {5});
  const reft::Site site{.layer = 1};
  CHECK_FALSE(model_with(base, "f1+l1", reft::Phase::prompt).interventions().decode_context(layout).acts_at(site));
  CHECK(model_with(base, "all", reft::Phase::every).interventions().decode_context(layout).acts_at(site));
  CHECK_FALSE(model_with(base, "f1", reft::Phase::every).interventions().decode_context(layout).acts_at(site));
}

TEST_CASE("an edit of every token is the same cached and uncached") {
  Model model = model_with(reft::test::tiny_model(), "all", reft::Phase::every);
  Tokens tokens = kPrompts[0];
  const auto cached = reft::generate(model, {tokens}, {.max_new_tokens = 8, .use_end_tokens = false})[0].tokens;
  torch::NoGradGuard no_grad;
  for (const int64_t expected : cached) {
    const Tokens lengths{std::ssize(tokens)};  // every token counts as prompt
    const torch::Tensor logits = model.forward(reft::Layout::ragged(lengths), lengths, torch::tensor(tokens, torch::kInt64));
    tokens.push_back(logits[-1].argmax().item<int64_t>());
    CHECK(tokens.back() == expected);
  }
}

TEST_CASE("a continuation ends before an end token") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const Tokens tokens = greedy_uncached(model, kPrompts[0], 6);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[3]);  // it may come earlier too
  const auto result = reft::generate(model, {kPrompts[0]}, {.max_new_tokens = 6, .end_tokens = {tokens[3]}})[0];
  CHECK(result.tokens == Tokens(tokens.begin(), first));
  CHECK(result.finish_reason == reft::FinishReason::stop);
}

TEST_CASE("every token is told as it comes") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  std::vector<Tokens> told(2);
  reft::GenerateOptions options{.max_new_tokens = 5, .use_end_tokens = false};
  options.on_token = [&](int64_t sequence, int64_t token) { told[sequence].push_back(token); };
  const auto results = reft::generate(model, {kPrompts[0], kPrompts[1]}, options);
  for (size_t i = 0; i < 2; ++i) CHECK(told[i] == results[i].tokens);
}

TEST_CASE("sampling repeats with its seed, and the mode it was in is kept") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  model.train();
  const auto sampled = [&](uint64_t seed) {
    return reft::generate(model, {kPrompts[0]}, {.max_new_tokens = 20, .sampling = {.temperature = 1.5, .seed = seed}, .use_end_tokens = false})[0].tokens;
  };
  CHECK(sampled(1) == sampled(1));
  CHECK(sampled(1) != sampled(2));
  CHECK(model.is_training());
}

TEST_CASE("prompts are checked before anything runs") {
  Model model(reft::test::tiny_model());
  CHECK(reft::test::error_text([&] { reft::generate(model, {{1}, {}}); }) == "[reft::generate] prompt 1: expected at least one token, got none");
  CHECK(reft::test::error_text([&] { reft::generate(model, {{1, 50}}); }) ==
        "[reft::generate] prompt 0: token 50, but the model's vocabulary has 50 (0..49)");
  CHECK(reft::generate(model, {}).empty());
}
