// Ids by Hugging Face's `tokenizers` 0.22.2.
#include "reft/tokenizer/unigram.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;
using Scored = std::vector<std::pair<const char*, double>>;

namespace {

Ids encoded(const Scored& tokens, const UnigramOptions& options, std::string_view word) {
  const auto vocabulary = std::make_shared<Vocabulary>();
  std::vector<double> scores;
  for (const auto& [token, score] : tokens) {
    vocabulary->add(token, std::ssize(scores), "v");
    scores.push_back(score);
  }
  Ids ids;
  Unigram(vocabulary, scores, options).encode(word, ids);
  return ids;
}

const Scored kTokens = {{"<unk>", 0}, {"a", 0}, {"b", 0}, {"c", 0}, {"d", 0}, {"cd", 1}, {"ab", 2}, {"abc", 5}, {"abcd", 10}};

}  // namespace

TEST_CASE("Unigram takes the best sum of scores") {
  const auto ids = [](std::string_view word) { return encoded(kTokens, {.unknown_id = 0}, word); };
  REQUIRE(ids("abcdacdxx") == Ids{8, 1, 5, 0});  // neighbouring unknown characters are one token
  REQUIRE(ids("xay") == Ids{0, 1, 0});
  REQUIRE(ids("<unk>x") == Ids{0});
  REQUIRE(ids("ab<unk>") == Ids{6, 0});
  REQUIRE(ids("").empty());
  REQUIRE(encoded({{"a", -1}, {"aa", -2}}, {}, "aaa") == Ids{0, 1});  // of equal ones, the first that was found
}

TEST_CASE("Unigram writes unknown characters as bytes where all have a token") {
  Scored tokens = kTokens;
  tokens.insert(tokens.end(), {{"<0xC3>", -5}, {"<0xA9>", -5}});
  const auto ids = [&](std::string_view word) { return encoded(tokens, {.unknown_id = 0, .byte_fallback = true}, word); };
  REQUIRE(ids("aé") == Ids{1, 9, 10});
  REQUIRE(ids("éé") == Ids{9, 10, 9, 10});
  REQUIRE(ids("éx") == Ids{0});
}

TEST_CASE("Unigram without an unknown token refuses what it cannot write") {
  REQUIRE(reft::test::error_text([] { encoded({{"a", -1}}, {}, "é"); }) ==
          "[reft::encode] \"é\" is not in the vocabulary, and there is no unknown token");
}
