#include "reft/tokenizer/decoder.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "tokenizer/json_text.hpp"

namespace {

std::string decoded(std::string_view json, std::vector<std::string> tokens) {
  return reft::detail::concatenated(reft::test::from_json(
      json, [](const auto& node) { return reft::detail::make_decoder(node); })(std::move(tokens)));
}

}  // namespace

TEST_CASE("each decoder") {
  REQUIRE(decoded(R"({"type": "ByteLevel"})", {"a", "ĠÃ", "©", " x"}) == "a é x");
  REQUIRE(decoded(R"({"type": "ByteLevel"})", {"Ã"}) == "\uFFFD");
  REQUIRE(decoded(R"({"type": "ByteFallback"})", {"a", "<0xC3>", "<0xA9>", "<0xZZ>"}) == "aé<0xZZ>");
  REQUIRE(decoded(R"({"type": "ByteFallback"})", {"<0x41>", "<0xC3>", "b"}) == "\uFFFD\uFFFDb");
  REQUIRE(decoded(R"({"type": "Metaspace"})", {"▁a", "▁b"}) == "a b");
  REQUIRE(decoded(R"({"type": "Metaspace", "prepend_scheme": "never"})", {"▁a"}) == " a");
  REQUIRE(decoded(R"({"type": "WordPiece"})", {"he", "##llo", "do", "n't", ",", "you"}) == "hello don't, you");
  REQUIRE(decoded(R"({"type": "WordPiece", "cleanup": false})", {"a", "."}) == "a .");
  REQUIRE(decoded(R"({"type": "BPEDecoder"})", {"a", "b</w>", "c</w>"}) == "ab c");
  REQUIRE(decoded(R"({"type": "Replace", "pattern": {"String": "_"}, "content": " "})", {"_a", "_b"}) == " a b");
  REQUIRE(decoded(R"({"type": "Strip", "content": "x", "start": 1, "stop": 2})", {"xxaxxx"}) == "xax");
}

TEST_CASE("the decoder of Llama 2") {
  const char* llama =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  REQUIRE(decoded(llama, {"▁▁a", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>", "▁b"}) == " a🦙 b");
}

TEST_CASE("malformed decoders are refused") {
  REQUIRE(reft::test::error_text([] { decoded(R"({"type": "Strip", "content": "", "start": 1, "stop": 0})", {}); }) ==
          "[reft::load_tokenizer] t.json: content: expected one character, got \"\"");
  REQUIRE(reft::test::contains(reft::test::error_text([] { decoded(R"({"type": "CTC"})", {}); }),
                               "\"CTC\" is not supported"));
}
