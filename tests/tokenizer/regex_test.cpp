#include "reft/tokenizer/regex.hpp"

#include <vector>

#include "support/catch.hpp"
#include "support/error_text.hpp"

using namespace reft::detail;
using Strings = std::vector<std::string>;

namespace {

Strings matches(std::string_view pattern, std::string_view text) {
  Strings found;
  Regex(pattern).for_each_match(
      text, [&](std::size_t begin, std::size_t end) { found.emplace_back(text.substr(begin, end - begin)); });
  return found;
}

}  // namespace

TEST_CASE("patterns match as in Oniguruma") {
  REQUIRE(matches(R"(\w+)", "aé_5½x-\u200Dy") == Strings{"aé_5½x", "y"});
  REQUIRE(matches(R"([\w-]+)", "a-b c") == Strings{"a-b", "c"});
  REQUIRE(matches(R"(\s+)", "a \u3000\u180Eb") == Strings{" \u3000"});
  REQUIRE(matches(R"(\S+)", "a \u180Eb") == Strings{"a", "\u180Eb"});
  REQUIRE(matches(R"(\h+)", "fg09") == Strings{"f", "09"});
  REQUIRE(matches("^a$", "a\nb\na") == Strings{"a", "a"});
  REQUIRE(matches(R"((?i:'s)|\p{L}+)", "It'S") == Strings{"It", "'S"});
}

TEST_CASE("empty matches advance by whole characters") { REQUIRE(matches("x*", "é🦙") == Strings{"", "", ""}); }

TEST_CASE("a quoted pattern matches its text only") {
  const std::string text = R"(a.b*[c](d){e}|f^$+?\-#)";
  REQUIRE(matches(quoted_pattern(text), "x" + text + "y") == Strings{text});
}

TEST_CASE("bad patterns are refused") {
  REQUIRE(reft::test::error_text([] { Regex("(a"); }) ==
          "[reft::load_tokenizer] pattern \"(a\": missing closing parenthesis");
  REQUIRE(reft::test::error_text([] { Regex(R"([a\W])"); }) ==
          R"([reft::load_tokenizer] pattern "[a\W]": a negated \S, \W or \H inside [ ] is not supported)");
  REQUIRE(reft::test::error_text([] { Regex("[a&&b]"); }) ==
          "[reft::load_tokenizer] pattern \"[a&&b]\": set intersection && is not supported");
  REQUIRE(
      reft::test::contains(reft::test::error_text([] { Regex(std::string(5000, '(')); }), "[reft::load_tokenizer]"));
}

TEST_CASE("a pattern that backtracks without end is an error, not a wait") {
  const std::string text(60, 'a');
  REQUIRE(reft::test::contains(reft::test::error_text([&] { matches("(?:a+)+(?:a+)+(?:a+)+b|(?:a|aa)+c", text); }),
                               "[reft::encode] pattern"));
}
