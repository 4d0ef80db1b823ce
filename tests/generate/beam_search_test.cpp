#include "reft/generate/beam_search.hpp"

#include "support/catch.hpp"
#include "support/generation.hpp"
#include "support/piece_tokenizer.hpp"

// That beams are those of transformers' generate is tested with programs/generation_test.sh.

namespace {

using reft::test::kPrompts;
using reft::test::model_with;
using reft::test::Tokens;
using Model = reft::ReftModel<reft::CausalLM>;

double log_probability(Model& model, const Tokens& prompt, const Tokens& tokens) {
  torch::NoGradGuard no_grad;
  Tokens all = prompt;
  all.insert(all.end(), tokens.begin(), tokens.end());
  const torch::Tensor logits = model.forward(reft::Layout::ragged({std::ssize(all)}), Tokens{std::ssize(prompt)}, torch::tensor(all, torch::kInt64));
  double sum = 0.0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    sum += logits[static_cast<int64_t>(prompt.size() + t) - 1].log_softmax(0)[tokens[t]].item<double>();
  }
  return sum;
}

}  // namespace

TEST_CASE("as many beams as there are sequences find the likeliest one") {
  reft::TransformerConfig config = reft::test::tiny_config();
  config.vocab_size = 6;
  Model model = model_with(reft::test::tiny_model(config), "f1+l1", reft::Phase::every);
  const Tokens prompt{1, 4, 2};
  double best = -1e9;
  Tokens likeliest;
  for (int64_t a = 0; a < 6; ++a) {
    for (int64_t b = 0; b < 6; ++b) {
      for (int64_t c = 0; c < 6; ++c) {
        const double found = log_probability(model, prompt, {a, b, c});
        if (found > best) best = found, likeliest = {a, b, c};
      }
    }
  }
  const auto beams = reft::generate(model, {prompt}, {.max_new_tokens = 3, .use_end_tokens = false, .num_samples = 2, .beams = {.num_beams = 36},
                                                      .log_probabilities = true});
  CHECK(beams[0].tokens == likeliest);
  CHECK(beams[0].beam_score == Approx(best / 3.0).margin(1e-5));
  CHECK(beams[0].beam_score > beams[1].beam_score);
  CHECK(beams[0].log_probabilities[0] + beams[0].log_probabilities[1] + beams[0].log_probabilities[2] == Approx(best).margin(1e-5));
}

TEST_CASE("beams of a ragged batch are those of each prompt alone, and those that are done leave it") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::every);
  for (const auto stopping : {reft::EarlyStopping::yes, reft::EarlyStopping::no, reft::EarlyStopping::never}) {
    for (const double length_penalty : {0.0, 1.0, 2.0}) {
      const reft::GenerateOptions options{.max_new_tokens = 10, .end_tokens = {7, 21, 33}, .num_samples = 3,
                                          .beams = {.num_beams = 4, .length_penalty = length_penalty, .early_stopping = stopping}};
      const auto together = reft::generate(model, kPrompts, options);
      REQUIRE(together.size() == 12);
      for (size_t i = 0; i < kPrompts.size(); ++i) {
        const auto alone = reft::generate(model, {kPrompts[i]}, options);
        for (size_t j = 0; j < 3; ++j) {
          const auto& found = together[3 * i + j];
          CHECK(found.tokens == alone[j].tokens);
          CHECK(found.finish_reason == alone[j].finish_reason);
          CHECK(found.beam_score == Approx(alone[j].beam_score).margin(1e-5));
        }
      }
    }
  }
}

TEST_CASE("a stop string ends a beam as an end token does") {
  Model model = model_with(reft::test::tiny_model(), "f1+l1", reft::Phase::prompt);
  const reft::Tokenizer letters = reft::test::letter_tokenizer();
  reft::GenerateOptions options{.max_new_tokens = 8, .use_end_tokens = false, .num_samples = 4, .beams = {.num_beams = 4}, .tokenizer = letters};
  const auto whole = reft::generate(model, {kPrompts[0]}, options);
  CHECK(whole[0].text == letters.decode(whole[0].tokens));
  options.stop_strings = {whole[0].text.substr(2, 2)};
  for (const auto& beam : reft::generate(model, {kPrompts[0]}, options)) {
    CHECK(beam.text.find(options.stop_strings[0]) == std::string::npos);
    CHECK(beam.text.starts_with(letters.decode(beam.tokens)));
  }
  CHECK(reft::generate(model, {kPrompts[0]}, options)[0].finish_reason == reft::FinishReason::stop);
}
