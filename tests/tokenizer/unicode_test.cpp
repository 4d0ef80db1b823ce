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
  REQUIRE((is_punctuation(U'$') && is_punctuation(U'~') && is_punctuation(U'。')));
  REQUIRE_FALSE((is_punctuation(U'€') || is_punctuation(U'5') || is_punctuation(U' ')));
  REQUIRE((is_word_character(U'é') && is_word_character(U'_') && is_word_character(U'\u200D')));
  REQUIRE_FALSE((is_word_character(U'-') || is_word_character(U'½')));
}

TEST_CASE("lower case and normalization forms") {
  REQUIRE(lowercased("ÀΣİß") == "àσi\u0307ß");
  REQUIRE(unicode_normalized("e\u0301", UTF8PROC_COMPOSE) == "é");
  REQUIRE(unicode_normalized("é", UTF8PROC_DECOMPOSE) == "e\u0301");
  REQUIRE(unicode_normalized("ﬁ²", UTF8PROC_COMPOSE | UTF8PROC_COMPAT) == "fi2");
}
