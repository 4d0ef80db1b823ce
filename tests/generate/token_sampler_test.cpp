#include "reft/generate/token_sampler.hpp"

#include <map>

#include "support/catch.hpp"
#include "support/error_text.hpp"

namespace {

/// How often each token is drawn from probabilities 0.5, 0.25, 0.125, 0.125.
std::map<int64_t, double> frequencies(reft::SamplingOptions options) {
  const torch::Tensor logits = torch::tensor({0.5, 0.25, 0.125, 0.125}).log();
  reft::TokenSampler sampler(options);
  std::map<int64_t, double> counts;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) counts[sampler.next(logits, {})] += 1.0 / kDraws;
  return counts;
}

}  // namespace

TEST_CASE("temperature 1 draws from the model's own distribution") {
  auto drawn = frequencies({.temperature = 1.0});
  CHECK(drawn[0] == Approx(0.5).margin(0.04));  // 4,000 draws: a standard deviation is below 0.008
  CHECK(drawn[1] == Approx(0.25).margin(0.04));
  CHECK(drawn[3] == Approx(0.125).margin(0.04));
}

TEST_CASE("temperature sharpens, top-k and top-p cut the tail") {
  auto sharp = frequencies({.temperature = 0.5});  // squares: 0.25, 0.0625, 0.015625 twice
  CHECK(sharp[0] == Approx(0.25 / 0.34375).margin(0.04));
  auto two = frequencies({.temperature = 1.0, .top_k = 2});
  CHECK(two.size() == 2);
  CHECK(two[0] == Approx(2.0 / 3.0).margin(0.04));
  CHECK(frequencies({.temperature = 1.0, .top_p = 0.5}).size() == 1);
  CHECK(frequencies({.temperature = 1.0, .top_p = 0.51}).size() == 2);
}

TEST_CASE("a repetition penalty pulls seen tokens down, whatever their sign") {
  reft::TokenSampler sampler({.repetition_penalty = 2.0});
  const std::vector<int64_t> seen{0, 0, 2};
  CHECK(sampler.next(torch::tensor({1.5, 1.0, -3.0}), seen) == 1);      // 0.75, 1, -6
  CHECK(sampler.next(torch::tensor({-1.0, -2.5, -1.0}), seen) == 0);    // -2, -2.5, -2: counted once
  CHECK_FALSE(sampler.is_plain_greedy());
}

TEST_CASE("no n-gram comes twice") {
  reft::TokenSampler sampler({.no_repeat_ngram = 3});
  const torch::Tensor logits = torch::tensor({0.0, 1.0, 2.0, 3.0});
  CHECK(sampler.next(logits, std::vector<int64_t>{1, 2, 3, 0, 1, 2}) == 2);  // 1 2 3 was there
  CHECK(sampler.next(logits, std::vector<int64_t>{1, 2, 3, 0, 2, 1}) == 3);
  CHECK(sampler.next(logits, std::vector<int64_t>{1, 2}) == 3);
}

TEST_CASE("sampling options that cannot be meant are refused") {
  const auto refusal = [](reft::SamplingOptions options) { return reft::test::error_text([&] { reft::TokenSampler sampler(options); }); };
  CHECK(refusal({.temperature = -1.0}) == "[reft::SamplingOptions] expected a temperature of 0 or more, got -1");
  CHECK(refusal({.top_p = 0.0}) == "[reft::SamplingOptions] expected a top_p above 0 and up to 1, got 0");
  CHECK(refusal({.min_p = 1.5}) == "[reft::SamplingOptions] expected a min_p in 0..1, got 1.5");
  CHECK(refusal({.repetition_penalty = 0.0}) == "[reft::SamplingOptions] expected a repetition penalty above 0, got 0");
}
