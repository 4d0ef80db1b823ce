#include "reft/tokenizer/normalizer.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "tokenizer/json_text.hpp"

namespace {

std::string normalized(std::string_view json, std::string text) {
  return reft::test::from_json(json,
                               [](const auto& node) { return reft::detail::make_normalizer(node); })(std::move(text));
}

}  // namespace

TEST_CASE("each normalizer") {
  REQUIRE(normalized(R"({"type": "Prepend", "prepend": "▁"})", "a") == "▁a");
  REQUIRE(normalized(R"({"type": "Prepend", "prepend": "▁"})", "") == "");
  REQUIRE(normalized(R"({"type": "Replace", "pattern": {"String": "."}, "content": "\\1"})", "a.b") == "a\\1b");
  REQUIRE(normalized(R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})", "a   b") == "a b");
  REQUIRE(normalized(R"({"type": "Lowercase"})", "ÀB") == "àb");
  REQUIRE(normalized(R"({"type": "Strip", "strip_left": true, "strip_right": false})", "\u3000a ") == "a ");
  REQUIRE(normalized(R"({"type": "Strip"})", "  ") == "");
  REQUIRE(normalized(R"({"type": "StripAccents"})", "e\u0301") == "e");
  REQUIRE(normalized(R"({"type": "ByteLevel"})", " a") == "Ġa");
  REQUIRE(normalized(R"({"type": "NFC"})", "e\u0301") == "é");
  REQUIRE(normalized(R"({"type": "NFD"})", "é") == "e\u0301");
  REQUIRE(normalized(R"({"type": "NFKC"})", "ﬁ") == "fi");
  REQUIRE(normalized(R"({"type": "NFKD"})", "é²") == "e\u03012");
  REQUIRE(
      normalized(
          R"({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]})",
          "É") == "e");
}

TEST_CASE("the normalizers of BERT, of translation and of SentencePiece") {
  REQUIRE(normalized(R"({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true})",
                     "À\t中") == "a  中 ");
  REQUIRE(normalized(R"({"type": "BertNormalizer", "lowercase": false})", "À") == "À");
  REQUIRE(normalized(R"({"type": "BertNormalizer", "lowercase": false, "strip_accents": true})", "À") == "A");
  REQUIRE(normalized(R"({"type": "Nmt"})", "a\tb\x01\u200B▁\uFEFF\u008F\u0080") == "a b   \u0080");
  REQUIRE(normalized(R"({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="})", "é") == "é");
}

TEST_CASE("unknown and endless normalizers are refused") {
  using reft::test::error_text;
  REQUIRE(
      error_text([] { normalized(R"({"type": "Uppercase"})", ""); }) ==
      "[reft::load_tokenizer] t.json: \"Uppercase\" is not supported (supported: Sequence Prepend Replace Lowercase "
      "Strip StripAccents ByteLevel BertNormalizer Nmt Precompiled NFC NFD NFKC NFKD)");
  REQUIRE(error_text([] { normalized(R"({"type": "Precompiled", "precompiled_charsmap": "?"})", ""); }) ==
          "[reft::load_tokenizer] t.json: precompiled_charsmap: expected base64");
  std::string nested = R"({"type": "NFC"})";
  for (int i = 0; i < 20; ++i) nested = R"({"type": "Sequence", "normalizers": [)" + nested + "]}";
  REQUIRE(reft::test::contains(error_text([&] { normalized(nested, ""); }), "nested more than 8 deep"));
}
