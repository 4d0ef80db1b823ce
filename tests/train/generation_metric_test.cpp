#include "reft/train/generation_metric.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/tiny_model.hpp"

TEST_CASE("scorers look past white space around the text") {
  CHECK(reft::exact_match(" Berlin\n", "Berlin") == 1.0);
  CHECK(reft::exact_match("Berlin.", "Berlin") == 0.0);
  CHECK(reft::exact_match("", " ") == 1.0);
  CHECK(reft::contains_match("It is Berlin.", " Berlin ") == 1.0);
  CHECK(reft::contains_match("It is Bonn.", "Berlin") == 0.0);
}

TEST_CASE("a generation metric is the mean score of greedy answers to the prompts") {
  const reft::CausalLM base = reft::test::tiny_model();
  reft::ReftModel<reft::CausalLM> model(base);
  const std::vector<std::vector<int64_t>> prompts{{1, 2, 3}, {4, 5}, {6}};
  const auto answers = reft::generate(model, prompts, {.max_new_tokens = 4});
  std::vector<reft::Example> examples;
  for (size_t i = 0; i < prompts.size(); ++i) {
    reft::Example example{prompts[i], std::vector<int64_t>(prompts[i].size(), reft::kIgnoredLabel), std::ssize(prompts[i])};
    auto answer = answers[i].tokens;
    if (i == 1) answer.front() = (answer.front() + 1) % 50;  // a wrong one
    example.input_ids.insert(example.input_ids.end(), answer.begin(), answer.end());
    example.labels.insert(example.labels.end(), answer.begin(), answer.end());
    examples.push_back(example);
  }
  const auto decode = [](std::span<const int64_t> ids) { return fmt::format("{}", fmt::join(ids, " ")); };
  const reft::ListedExamples source(examples);
  std::vector<std::string> seen;
  const reft::Scorer scorer = [&](std::string_view answer, std::string_view expected) {
    seen.emplace_back(expected);
    return reft::exact_match(answer, expected);
  };
  model.train();
  CHECK(reft::generation_metric(source, decode, scorer, {.max_new_tokens = 4, .batch_size = 2})(model) == Approx(2.0 / 3.0));
  CHECK(model.is_training());
  REQUIRE(seen.size() == 3);
  CHECK(seen[0] == decode(answers[0].tokens));
  const std::vector<reft::Example> none;
  const reft::ListedExamples empty(none);
  CHECK(reft::test::error_text([&] { reft::generation_metric(empty, decode, scorer)(model); }) ==
        "[reft::generation_metric] expected at least one example, got none");
}
