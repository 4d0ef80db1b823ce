// Answers of Hugging Face's `tokenizers` 0.22.2.
#include "reft/tokenizer/older_unicode.hpp"

#include "support/catch.hpp"

using namespace reft::detail;

TEST_CASE("a range holds its ends") {
  constexpr CodePointRange ranges[] = {{5, 7}, {9, 9}};
  for (const char32_t c : {5, 6, 7, 9}) REQUIRE(is_in(c, ranges));
  for (const char32_t c : {0, 4, 8, 10}) REQUIRE_FALSE(is_in(c, ranges));
}

TEST_CASE("characters newer than Unicode 8 are no marks, punctuation or controls") {
  REQUIRE((is_nonspacing_mark(0x301) && is_nonspacing_mark(0x1734) && !is_nonspacing_mark(0x1AC0) && !is_nonspacing_mark('a')));
  REQUIRE((is_punctuation('$') && is_punctuation(0x2E42) && is_punctuation(0x166D) && !is_punctuation(0x2E4A)));
  REQUIRE_FALSE((is_punctuation('a') || is_punctuation('0') || is_punctuation(' ')));
  REQUIRE((is_other(0x7F) && is_other(0x200D) && is_other(0xE000) && !is_other(0x110CD) && !is_other('a') && !is_other(0x378)));
}

TEST_CASE("characters newer than Unicode 9 are no accents and have no other forms") {
  REQUIRE((is_accent(0x301) && is_accent(0x903) && is_accent(0x1CF2) && !is_accent(0xD3C) && !is_accent('a')));
  REQUIRE(unicode_normalized("㋿ﬁ", UTF8PROC_COMPOSE | UTF8PROC_COMPAT) == "㋿fi");
  // U+0D3C goes before U+0327 by its class, which Unicode 9 does not know; the two after it compose no more than before.
  REQUIRE(unicode_normalized("c\u0327\u0D3C\u0327\u0301", UTF8PROC_COMPOSE) == "ç\u0D3C\u0327\u0301");
  REQUIRE(unicode_normalized("e\u0301", UTF8PROC_COMPOSE) == "é");
  REQUIRE(unicode_normalized("plain", UTF8PROC_DECOMPOSE) == "plain");
}
