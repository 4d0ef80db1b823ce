#include "reft/tokenizer/pre_tokenizer.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "tokenizer/json_text.hpp"

using Strings = std::vector<std::string>;

namespace {

Strings words(std::string_view json, std::string text, bool starts_text = true) {
  reft::detail::TextPieces pieces(std::move(text), starts_text);
  reft::test::from_json(json, [](const auto& node) { return reft::detail::make_pre_tokenizer(node); })(pieces);
  Strings result;
  for (const auto& piece : pieces.pieces) result.emplace_back(pieces.view(piece));
  return result;
}

}  // namespace

TEST_CASE("ByteLevel cuts as GPT-2 does") {
  const char* plain = R"({"type": "ByteLevel", "add_prefix_space": false})";
  REQUIRE(words(plain, "It's  a 42é!?\n") == Strings{"It", "'s", "Ġ", "Ġa", "Ġ42", "Ã©", "!?", "Ċ"});
  REQUIRE(words(R"({"type": "ByteLevel"})", "a b") == Strings{"Ġa", "Ġb"});
  REQUIRE(words(R"({"type": "ByteLevel"})", " a") == Strings{"Ġa"});
  REQUIRE(words(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})", "a b") == Strings{"aĠb"});
}

TEST_CASE("Metaspace marks spaces and the start") {
  REQUIRE(words(R"({"type": "Metaspace"})", "a  b", false) == Strings{"▁a", "▁", "▁b"});
  REQUIRE(words(R"({"type": "Metaspace", "prepend_scheme": "first"})", "a b", true) == Strings{"▁a", "▁b"});
  REQUIRE(words(R"({"type": "Metaspace", "prepend_scheme": "first"})", "a b", false) == Strings{"a", "▁b"});
  REQUIRE(words(R"({"type": "Metaspace", "prepend_scheme": "never", "split": false})", "a b") == Strings{"a▁b"});
  REQUIRE(words(R"({"type": "Metaspace", "add_prefix_space": false, "replacement": "_"})", "a b") ==
          Strings{"a", "_b"});
}

TEST_CASE("the other pre-tokenizers") {
  REQUIRE(words(R"({"type": "BertPreTokenizer"})", "Hi, you$2") == Strings{"Hi", ",", "you", "$", "2"});
  REQUIRE(words(R"({"type": "Whitespace"})", "a\u200Db ½-c") == Strings{"a\u200Db", "½-", "c"});
  REQUIRE(words(R"({"type": "WhitespaceSplit"})", " a-b\u3000c") == Strings{"a-b", "c"});
  REQUIRE(words(R"({"type": "CharDelimiterSplit", "delimiter": "."})", "a.b") == Strings{"a", "b"});
  REQUIRE(words(R"({"type": "Digits", "individual_digits": true})", "a12") == Strings{"a", "1", "2"});
  REQUIRE(words(R"({"type": "Digits"})", "a12") == Strings{"a", "12"});
  REQUIRE(words(R"({"type": "Punctuation", "behavior": "Removed"})", "a,b") == Strings{"a", "b"});
  REQUIRE(words(R"({"type": "Split", "pattern": {"Regex": "\\d"}, "behavior": "Removed", "invert": true})", "a1b2") ==
          Strings{"1", "2"});
  REQUIRE(words(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits"}]})",
                "a1 2") == Strings{"a", "1", "2"});
}

TEST_CASE("malformed pre-tokenizers are refused") {
  const auto error = [](const char* json) { return reft::test::error_text([&] { words(json, "a"); }); };
  REQUIRE(error(R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Merged"})") ==
          "[reft::load_tokenizer] t.json: behavior: expected Isolated, Removed, MergedWithPrevious, MergedWithNext or "
          "Contiguous, got \"Merged\"");
  REQUIRE(error(R"({"type": "Metaspace", "prepend_scheme": "last"})") ==
          "[reft::load_tokenizer] t.json: prepend_scheme: expected always, first or never, got \"last\"");
  REQUIRE(error(R"({"type": "Metaspace", "replacement": "ab"})") ==
          "[reft::load_tokenizer] t.json: replacement: expected one character, got \"ab\"");
  REQUIRE(error(R"({"type": "Split", "behavior": "Removed"})") ==
          "[reft::load_tokenizer] t.json: \"pattern\" is missing");
  REQUIRE(error(R"({"pattern": 1})") == "[reft::load_tokenizer] t.json: \"type\" is missing");
}
