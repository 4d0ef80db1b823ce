// Texts by Hugging Face's `tokenizers` 0.22.2.
#include "reft/tokenizer/bert_normalizer.hpp"

#include "support/catch.hpp"

using namespace reft::detail;

TEST_CASE("what BERT does to a text") {
  const std::string text("Größe\tÀ\0\x07中x\u3000\uFFFD\u200D", 26);
  REQUIRE(bert_normalized(text, {}) == "große a 中 x ");
  REQUIRE(bert_normalized(text, {.strip_accents = false, .lowercase = false}) == "Größe À 中 x ");
  REQUIRE(bert_normalized(text, {.clean_text = false, .handle_chinese_chars = false, .strip_accents = false}) ==
          std::string("größe\tà\0\x07中x\u3000\uFFFD\u200D", 26));
  REQUIRE(bert_normalized("İ", {}) == "i");
  REQUIRE(bert_normalized("İ", {.strip_accents = false}) == "i\u0307");
}

TEST_CASE("ideographs are those of the CJK blocks") {
  REQUIRE((is_cjk_ideograph(0x4E00) && is_cjk_ideograph(0x3400) && is_cjk_ideograph(0x2B920) && is_cjk_ideograph(0xF900)));
  REQUIRE_FALSE((is_cjk_ideograph(0x3042) || is_cjk_ideograph(0xAC00) || is_cjk_ideograph(0x2B820)));
}
