#include "reft/tokenizer/unicode.hpp"

#include "support/catch.hpp"

using namespace reft::detail;

TEST_CASE("ill-formed UTF-8 becomes one U+FFFD per maximal part of a character") {
  // As Python's bytes.decode(errors="replace").
  REQUIRE(to_valid_utf8("a\x80z") == "a\uFFFDz");
  REQUIRE(to_valid_utf8("\xE2\x82z") == "\uFFFDz");
  REQUIRE(to_valid_utf8("\xF0\x9F\x98") == "\uFFFD");
  REQUIRE(to_valid_utf8("\xC0\xAF") == "\uFFFD\uFFFD");                      // overlong
  REQUIRE(to_valid_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");            // a surrogate
  REQUIRE(to_valid_utf8("\xF4\x90\x80\x80") == "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  REQUIRE(to_valid_utf8("é🦙") == "é🦙");
  REQUIRE(is_valid_utf8("é🦙"));
  REQUIRE_FALSE(is_valid_utf8("\xC3"));
}

TEST_CASE("characters are found from both ends") {
  REQUIRE(first_code_point("🦙a") == 0x1F999);
  REQUIRE(last_character_begin("aé") == 1);
  std::string copy;
  for_each_character("aé🦙", [&](char32_t c, std::string_view) { append_code_point(copy, c); });
  REQUIRE(copy == "aé🦙");
}

TEST_CASE("character classes") {
  for (const char32_t c : {U' ', U'\t', U'\r', U'\x85', U'\xA0', U'\u2028', U'\u3000'}) REQUIRE(is_white_space(c));
  for (const char32_t c : {U'a', U'\u200B', U'\u180E', U'\0'}) REQUIRE_FALSE(is_white_space(c));
  REQUIRE((is_numeric(U'7') && is_numeric(U'½') && is_numeric(U'Ⅷ')));
  REQUIRE_FALSE(is_numeric(U'a'));
  REQUIRE((is_word_character(U'é') && is_word_character(U'_') && is_word_character(U'\u200D')));
  REQUIRE_FALSE((is_word_character(U'-') || is_word_character(U'½')));
}

TEST_CASE("lower case and normalization forms") {
  REQUIRE(lowercased("ÀΣİß") == "àσi\u0307ß");
  REQUIRE(utf8proc_normalized("e\u0301", UTF8PROC_COMPOSE) == "é");
  REQUIRE(utf8proc_normalized("é", UTF8PROC_DECOMPOSE) == "e\u0301");
  REQUIRE(utf8proc_normalized("ﬁ²", UTF8PROC_COMPOSE | UTF8PROC_COMPAT) == "fi2");
}

TEST_CASE("graphemes: marks stay with their letter, joined emoji and syllables are one") {
  const auto graphemes = [](std::string_view text) {
    std::string result;
    reft::detail::for_each_grapheme(text, [&](std::string_view grapheme) { result.append(grapheme).append("|"); });
    return result;
  };
  REQUIRE(graphemes("ae\u0301\r\n\n\rb") == "a|e\u0301|\r\n|\n|\r|b|");
  REQUIRE(graphemes("👩‍🚀🇩🇪🇫🇷") == "👩‍🚀|🇩🇪|🇫🇷|");
  REQUIRE(graphemes("\u1100\u1161\u11A8가") == "\u1100\u1161\u11A8|가|");
  REQUIRE(graphemes("\u0301") == "\u0301|");
  REQUIRE(graphemes("").empty());
}
