#include "reft/data/tokenize_preferences.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "support/piece_tokenizer.hpp"

namespace {

using reft::PromptExample;

reft::TokenizedPreferences tokenize(const std::vector<reft::PreferenceExample>& rows, int64_t max_length = 16) {
  const reft::Tokenizer letters = reft::test::letter_tokenizer();
  return reft::tokenize_preferences(rows, [&](std::string_view text) { return letters.encode(text); }, {.eos_token_id = 49, .max_length = max_length});
}

}  // namespace

TEST_CASE("a pair is two sequences, each supervised where its answer stands") {
  const auto tokens = tokenize({{PromptExample{"ac", "e"}, PromptExample{"ac", "gi"}}});
  REQUIRE(tokens.pairs.size() == 1);
  CHECK(tokens.pairs[0].chosen.input_ids == std::vector<int64_t>{0, 2, 4, 49});
  CHECK(tokens.pairs[0].chosen.labels == std::vector<int64_t>{-100, -100, 4, 49});
  CHECK(tokens.pairs[0].rejected.input_ids == std::vector<int64_t>{0, 2, 6, 8, 49});
  CHECK(tokens.pairs[0].rejected.prompt_length == 2);

  const auto source = std::make_shared<reft::PreferencePairs>(tokens.pairs);
  CHECK(source->size() == 1);
  CHECK(source->get(0) == tokens.pairs[0].chosen);
  for (const auto& whole : std::vector<std::shared_ptr<const reft::ExampleSource>>{
           source, std::make_shared<reft::SelectedExamples>(source, std::vector<int64_t>{0}),
           std::make_shared<reft::JoinedExamples>(std::vector<std::shared_ptr<const reft::ExampleSource>>{source})}) {
    const auto sequences = whole->sequences(0);
    REQUIRE(sequences.size() == 2);
    CHECK(sequences[1] == tokens.pairs[0].rejected);
  }
}

TEST_CASE("pairs without something to prefer are left out") {
  const auto tokens = tokenize({{PromptExample{"ac", "e"}, PromptExample{"ac", "e"}},         // no difference
                                {PromptExample{"acegik", "e"}, PromptExample{"acegik", "g"}},  // no room for an answer
                                {PromptExample{"ac", "e"}, PromptExample{"ac", "gikmo"}}},
                               6);
  CHECK(tokens.num_skipped == 2);
  CHECK(tokens.num_cut == 1);
  REQUIRE(tokens.pairs.size() == 1);
  CHECK(tokens.pairs[0].rejected.input_ids == std::vector<int64_t>{0, 2, 6, 8, 10, 12});
  CHECK(reft::test::contains(reft::test::error_text([] { tokenize({{PromptExample{"a", "e"}, PromptExample{"a", "e"}}}); }), "none of 1 examples is usable"));
}
