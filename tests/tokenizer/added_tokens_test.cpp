#include "reft/tokenizer/added_tokens.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;

namespace {

/// Segments as text, ids in brackets.
std::string shown(std::string_view text, const std::vector<AddedTokens::Segment>& segments) {
  std::string result;
  for (const auto& segment : segments) {
    const std::string part(text.substr(segment.begin, segment.end - segment.begin));
    result += segment.id ? "[" + std::to_string(*segment.id) + ":" + part + "]" : "(" + part + ")";
  }
  return result;
}

std::string split_raw(std::vector<AddedToken> tokens, std::string_view text) {
  return shown(text, AddedTokens(std::move(tokens), nullptr, "test").split_raw(text));
}

}  // namespace

TEST_CASE("the leftmost, then the longest added token is taken") {
  const std::vector<AddedToken> tokens{{.id = 1, .content = "<s>", .normalized = false},
                                       {.id = 2, .content = "<s><s>", .normalized = false}};
  REQUIRE(split_raw(tokens, "a<s>b") == "(a)[1:<s>](b)");
  REQUIRE(split_raw(tokens, "<s><s><s>") == "[2:<s><s>][1:<s>]");
  REQUIRE(split_raw(tokens, "<s") == "(<s)");
  REQUIRE(split_raw(tokens, "") == "");
}

TEST_CASE("stripping takes white space along") {
  REQUIRE(split_raw({{.id = 1, .content = "x", .lstrip = true, .normalized = false}}, "a \n x b") ==
          "(a)[1: \n x]( b)");
  REQUIRE(split_raw({{.id = 1, .content = "x", .rstrip = true, .normalized = false}}, "a x \u3000b") ==
          "(a )[1:x \u3000](b)");
}

TEST_CASE("a single word is one that no word character touches") {
  const AddedToken word{.id = 1, .content = "x", .single_word = true, .normalized = false};
  REQUIRE(split_raw({word}, "ax x xé") == "(ax )[1:x]( xé)");
}

TEST_CASE("normalized tokens are looked for in normalized text, in their normalized form") {
  const AddedTokens tokens(
      {{.id = 1, .content = "ABC"}, {.id = 2, .content = "DEF", .normalized = false}},
      [](std::string text) { return lowercased(text); }, "test");
  REQUIRE(shown("ABCDEF", tokens.split_raw("ABCDEF")) == "(ABC)[2:DEF]");
  REQUIRE(shown("abcdef", tokens.split_normalized("abcdef")) == "[1:abc](def)");
}

TEST_CASE("special tokens are known by id; names and ids stand once") {
  const AddedTokens tokens({{.id = 7, .content = "<s>", .special = true}, {.id = 8, .content = "x"}}, nullptr, "test");
  REQUIRE(tokens.is_special(7));
  REQUIRE_FALSE((tokens.is_special(8) || tokens.is_special(9)));
  REQUIRE(reft::test::error_text([] {
            AddedTokens({{.id = 1, .content = "a"}, {.id = 1, .content = "b"}}, nullptr, "t.json");
          }) == "[reft::load_tokenizer] t.json: id 1 is there twice, as \"a\" and \"b\"");
}
