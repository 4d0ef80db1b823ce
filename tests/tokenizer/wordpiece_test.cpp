// Ids by Hugging Face's `tokenizers` 0.22.2.
#include "reft/tokenizer/wordpiece.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;

namespace {

Ids encoded(std::string_view word, const char* unknown_token = "[UNK]") {
  const auto vocabulary = std::make_shared<Vocabulary>();
  int64_t id = 0;
  for (const char* token : {"[UNK]", "un", "##aff", "##able", "want", "##a", "a", "##", "é", "##é"}) vocabulary->add(token, id++, "v");
  Ids ids{-1};  // what is there stays
  WordPiece(vocabulary, {.unknown_token = unknown_token, .longest_word = 9}).encode(word, ids);
  REQUIRE(ids.front() == -1);
  return {ids.begin() + 1, ids.end()};
}

}  // namespace

TEST_CASE("WordPiece takes the longest token first") {
  REQUIRE(encoded("unaffable") == Ids{1, 2, 3});
  REQUIRE(encoded("wanta") == Ids{4, 5});
  REQUIRE(encoded("aé") == Ids{6, 9});
  REQUIRE(encoded("éé") == Ids{8, 9});
  REQUIRE(encoded("##") == Ids{7});
  REQUIRE(encoded("").empty());
}

TEST_CASE("WordPiece makes one unknown token of a word it cannot write, or a long one") {
  REQUIRE(encoded("unwant") == Ids{0});
  REQUIRE(encoded("unaff#") == Ids{0});
  REQUIRE(encoded("unaffablea") == Ids{0});
  REQUIRE(encoded("ééééééééé") == Ids{8, 9, 9, 9, 9, 9, 9, 9, 9});  // 9 characters, 18 bytes
  REQUIRE(reft::test::error_text([] { encoded("x", "[NONE]"); }) ==
          "[reft::encode] the word \"x\" is unknown, and the vocabulary lacks the unknown token \"[NONE]\"");
}
