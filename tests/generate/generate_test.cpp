#include "reft/generate/generate.hpp"

#include <map>
#include <set>

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/generation.hpp"
#include "support/piece_tokenizer.hpp"

namespace {

using Model = reft::ReftModel<reft::CausalLM>;
using reft::test::greedy_uncached;
using reft::test::kPrompts;
using reft::test::model_with;
using reft::test::Tokens;

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

TEST_CASE("decoding steps of a phase are those of the uncached run, where tokens behind the prompt count as decoded") {
  for (const char* phase : {"decode", "every", "every:3", "decode:2:5"}) {
    INFO(phase);
    Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::parse_phase(phase));
    const auto cached = reft::generate(model, kPrompts, {.max_new_tokens = 8, .use_end_tokens = false});
    for (size_t i = 0; i < kPrompts.size(); ++i) CHECK(cached[i].tokens == greedy_uncached(model, kPrompts[i], 8));
  }
  Model prompt_only = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt), every = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::every);
  CHECK(greedy_uncached(prompt_only, kPrompts[0], 8) != greedy_uncached(every, kPrompts[0], 8));
}

TEST_CASE("a condition on token ids holds at decode as in the uncached run") {
  const reft::CausalLM base = reft::test::tiny_model();
  Model everywhere = model_with(base, "all", reft::Phase::every), model(base);
  const Tokens free = greedy_uncached(everywhere, kPrompts[3], 12);
  torch::manual_seed(5);
  model.attach<reft::LoReFT>({.layer = 0, .positions = "all", .phase = reft::Phase::every, .token_ids = {9, free[0], free[2]}}, {.rank = 4});
  const Tokens expected = greedy_uncached(model, kPrompts[3], 12);
  CHECK(reft::generate(model, {kPrompts[3]}, {.max_new_tokens = 12, .use_end_tokens = false})[0].tokens == expected);
  CHECK(expected != free);
}

TEST_CASE("sequences that end early leave the batch, and the others go on as if alone") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::every);
  std::vector<Tokens> full;
  for (const Tokens& prompt : kPrompts) full.push_back(greedy_uncached(model, prompt, 12));
  // One ends at once, one in the middle; which tokens end it is the same for all.
  const reft::GenerateOptions options{.max_new_tokens = 12, .end_tokens = {full[1][0], full[2][5]}};
  const auto together = reft::generate(model, kPrompts, options);
  std::set<size_t> lengths;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto end = std::find_first_of(full[i].begin(), full[i].end(), options.end_tokens.begin(), options.end_tokens.end());
    CHECK(together[i].tokens == Tokens(full[i].begin(), end));
    CHECK(together[i].finish_reason == (end == full[i].end() ? reft::FinishReason::length : reft::FinishReason::stop));
    lengths.insert(together[i].tokens.size());
  }
  CHECK(lengths.size() > 1);
}

TEST_CASE("samples of a prompt differ, repeat with their seed, and are the same beside other prompts") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const reft::GenerateOptions options{.max_new_tokens = 10, .sampling = {.temperature = 1.0, .top_k = 20, .seed = 3}, .use_end_tokens = false, .num_samples = 3};
  const auto together = reft::generate(model, kPrompts, options);
  REQUIRE(together.size() == 12);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    const auto alone = reft::generate(model, {kPrompts[i]}, options);
    for (size_t j = 0; j < 3; ++j) {
      CHECK(alone[j].tokens == together[3 * i + j].tokens);
      reft::GenerateOptions one = options;
      one.num_samples = 1;
      one.sampling.seed = 3 + j;
      CHECK(reft::generate(model, {kPrompts[i]}, one)[0].tokens == alone[j].tokens);
    }
    CHECK(alone[0].tokens != alone[1].tokens);
  }
}

TEST_CASE("log-probabilities are those of the model, whatever the rules of sampling") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::every);
  const auto results = reft::generate(model, kPrompts, {.max_new_tokens = 9, .sampling = {.temperature = 0.8, .top_k = 10, .repetition_penalty = 1.3},
                                                       .use_end_tokens = false, .log_probabilities = true});
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    Tokens tokens = kPrompts[i];
    const int64_t prompt_length = std::ssize(tokens);
    tokens.insert(tokens.end(), results[i].tokens.begin(), results[i].tokens.end());
    const torch::Tensor expected = model.forward(reft::Layout::ragged({std::ssize(tokens)}), Tokens{prompt_length}, torch::tensor(tokens, torch::kInt64)).log_softmax(1);
    REQUIRE(results[i].log_probabilities.size() == 9);
    for (int64_t t = 0; t < 9; ++t) {
      CHECK(results[i].log_probabilities[t] == Approx(expected[prompt_length - 1 + t][results[i].tokens[t]].item<double>()).margin(1e-5));
    }
  }
  CHECK(reft::generate(model, {kPrompts[0]}, {.max_new_tokens = 2})[0].log_probabilities.empty());
}

TEST_CASE("text comes in whole characters and ends before a stop string, and so do the tokens") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const reft::Tokenizer letters = reft::test::letter_tokenizer();
  std::map<int64_t, std::string> told;
  reft::GenerateOptions options{.max_new_tokens = 16, .use_end_tokens = false, .tokenizer = letters};
  options.on_text = [&](int64_t sequence, std::string_view text) {
    CHECK(reft::detail::is_valid_utf8(text));
    told[sequence] += text;
  };
  const auto whole = reft::generate(model, kPrompts, options);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    CHECK(whole[i].text == letters.decode(whole[i].tokens));
    CHECK(told[static_cast<int64_t>(i)] == whole[i].text);
  }
  const std::string stop = whole[0].text.substr(6, 3);
  options.stop_strings = {stop};
  options.log_probabilities = true;
  told.clear();
  const auto cut = reft::generate(model, kPrompts, options);
  for (size_t i = 0; i < kPrompts.size(); ++i) {
    CHECK(cut[i].text == whole[i].text.substr(0, whole[i].text.find(stop)));
    CHECK(told[static_cast<int64_t>(i)] == cut[i].text);
    CHECK(cut[i].text.starts_with(letters.decode(cut[i].tokens)));
    CHECK(cut[i].log_probabilities.size() == cut[i].tokens.size());
    CHECK((cut[i].finish_reason == reft::FinishReason::stop) == (cut[i].text.size() < whole[i].text.size()));
  }
  CHECK(cut[0].finish_reason == reft::FinishReason::stop);
}

TEST_CASE("options that cannot be meant together are refused") {
  const Model model(reft::test::tiny_model());
  const auto refusal = [&](reft::GenerateOptions options) { return reft::test::error_text([&] { reft::generate(model, {{1}}, options); }); };
  CHECK(refusal({.max_new_tokens = -1}) == "[reft::generate] expected max_new_tokens >= 0, got -1");
  CHECK(refusal({.num_samples = 2}) == "[reft::generate] several greedy samples would be the same; expected a temperature above 0, or beams");
  CHECK(refusal({.num_samples = 5, .beams = {.num_beams = 4}}) == "[reft::generate] expected as many samples as beams at most, got 5");
  CHECK(refusal({.sampling = {.temperature = 1.0}, .beams = {.num_beams = 4}}) ==
        "[reft::generate] expected a temperature of 0 with beams, which are not drawn, got 1");
  CHECK(refusal({.stop_strings = {"."}}) == "[reft::generate] stop strings and on_text need a tokenizer; set one in the options");
  CHECK(refusal({.on_token = [](int64_t, int64_t) {}, .beams = {.num_beams = 2}}) ==
        "[reft::generate] beams cannot be told of as they come: any may be given up yet");
}

TEST_CASE("prompts are checked before anything runs") {
  Model model(reft::test::tiny_model());
  CHECK(reft::test::error_text([&] { reft::generate(model, {{1}, {}}); }) == "[reft::generate] prompt 1: expected at least one token, got none");
  CHECK(reft::test::error_text([&] { reft::generate(model, {{1, 50}}); }) ==
        "[reft::generate] prompt 0: token 50, but the model's vocabulary has 50 (0..49)");
  CHECK(reft::generate(model, {}).empty());
}
