#include "reft/generate/prefix_cache.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/error_text.hpp"
#include "support/generation.hpp"

namespace {

using reft::GenerationRequest;
using reft::test::model_with;
using reft::test::Tokens;

const Tokens kSystem{8, 21, 4, 33, 17, 2};

Tokens after_system(const Tokens& rest) {
  Tokens tokens = kSystem;
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

/// How many rows the first block was given since the last call.
struct RowCounter {
  explicit RowCounter(reft::CausalLM base)
      : handle(base->hook_point({.layer = 0}).add([this](torch::Tensor h, const reft::ForwardContext&) {
          rows += h.size(0);
          return h;
        })) {}
  int64_t take() { return std::exchange(rows, 0); }

  int64_t rows = 0;
  reft::HookHandle handle;
};

}  // namespace

TEST_CASE("a shared beginning is computed once, and every request is answered as without it") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto first = model_with(base, "f1+l1", reft::Phase::prompt, 11).adapter(), last = model_with(base, "l1", reft::Phase::every, 12).adapter();
  const std::vector<GenerationRequest> requests{{after_system({5, 6, 7})},           {after_system({9}), last},
                                                {after_system({12, 30}), last, 0.5}, {after_system({5, 6, 7, 11}), first},
                                                {after_system({14}), first},         {{3, 4}, first},
                                                {kSystem, last}};
  reft::GenerateOptions options{.max_new_tokens = 8, .use_end_tokens = false, .log_probabilities = true};
  const auto expected = reft::generate(base, requests, options);
  reft::PrefixCache prefix(base, kSystem);
  options.prefix = &prefix;
  RowCounter counter(base);
  for (int round = 0; round < 2; ++round) {
    const auto found = reft::generate(base, requests, options);
    for (size_t i = 0; i < requests.size(); ++i) {
      CHECK(found[i].tokens == expected[i].tokens);
      for (size_t t = 0; t < 8; ++t) CHECK(found[i].log_probabilities[t] == Approx(expected[i].log_probabilities[t]).margin(1e-5));
    }
    // Two sets of keys: with nothing edited there, and with the first token edited by `first`. Then what is left of the
    // prompts, 11 rows, and the two that do not begin so or do not go on, 8; then 7 tokens of 7 continuations each.
    CHECK(counter.take() == (round == 0 ? 12 : 0) + 19 + 49);
  }
  CHECK(prefix.num_computed() == 2);
  prefix.clear();
  CHECK(prefix.num_computed() == 0);
}

TEST_CASE("suffix positions that reach into the beginning, and scales, have keys of their own") {
  const reft::CausalLM base = reft::test::tiny_model();
  const auto adapter = model_with(base, "l4", reft::Phase::prompt).adapter();
  const std::vector<GenerationRequest> requests{{after_system({5}), adapter},                     // three positions inside
                                                {after_system({6}), adapter},                     // the same ones
                                                {after_system({5, 6}), adapter},                  // two
                                                {after_system({5}), adapter, 0.5},                // scaled
                                                {after_system({5, 6, 7, 8, 9}), adapter}};        // none
  reft::GenerateOptions options{.max_new_tokens = 6, .use_end_tokens = false};
  const auto expected = reft::generate(base, requests, options);
  reft::PrefixCache prefix(base, kSystem);
  options.prefix = &prefix;
  const auto found = reft::generate(base, requests, options);
  for (size_t i = 0; i < requests.size(); ++i) CHECK(found[i].tokens == expected[i].tokens);
  CHECK(prefix.num_computed() == 4);
}

TEST_CASE("a beginning of another base, or one that cannot be, is refused") {
  const reft::CausalLM base = reft::test::tiny_model();
  CHECK(reft::test::error_text([&] { reft::PrefixCache(base, {}); }) == "[reft::PrefixCache] prefix 0: expected at least one token, got none");
  reft::PrefixCache other(reft::test::tiny_model(), kSystem);
  CHECK(reft::test::error_text([&] { reft::generate(base, std::vector<GenerationRequest>{{{1}}}, {.prefix = &other}); }) ==
        "[reft::generate] the prefix was made for another base");
}
