#include "reft/tokenizer/vocabulary.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::Vocabulary;

TEST_CASE("tokens and ids, both ways, with gaps") {
  Vocabulary vocabulary;
  vocabulary.add("a", 0, "file");
  vocabulary.add("b", 5, "file");
  REQUIRE(vocabulary.find("b") == 5);
  REQUIRE(vocabulary.find("c") == -1);
  REQUIRE(*vocabulary.token(0) == "a");
  for (const int64_t id : {int64_t{-1}, int64_t{3}, int64_t{6}, int64_t{1} << 40})
    REQUIRE(vocabulary.token(id) == nullptr);
  REQUIRE(vocabulary.end_id() == 6);
  const Vocabulary moved = std::move(vocabulary);
  REQUIRE(*moved.token(5) == "b");
}

TEST_CASE("a token or an id stands once") {
  Vocabulary vocabulary;
  vocabulary.add("a", 0, "file");
  REQUIRE(reft::test::error_text([&] { vocabulary.add("a", 1, "file"); }) ==
          "[reft::load_tokenizer] file: token \"a\" is there twice, as 0 and 1");
  REQUIRE(reft::test::error_text([&] { vocabulary.add("b", 0, "file"); }) ==
          "[reft::load_tokenizer] file: id 0 is there twice, as \"a\" and \"b\"");
  REQUIRE(reft::test::error_text([&] { vocabulary.add("c", -1, "file"); }) ==
          "[reft::load_tokenizer] file: token \"c\": expected an id from 0 to 16777215, got -1");
}
