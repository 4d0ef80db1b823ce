#include "reft/tokenizer/post_processor.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"
#include "tokenizer/json_text.hpp"

using Ids = std::vector<int64_t>;

namespace {

reft::detail::PostProcessor made(std::string_view json) {
  return reft::test::from_json(json, [](const auto& node) { return reft::detail::make_post_processor(node); });
}

}  // namespace

TEST_CASE("what is put around a text") {
  const auto bert = made(R"({"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]})");
  REQUIRE((bert.before == Ids{101} && bert.after == Ids{102}));
  const std::string one =
      R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "e"}}],
    "special_tokens": {"s": {"ids": [1, 2]}, "e": {"ids": [3]}}})";
  const auto both = made(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, )" + one + "," + one + "]}");
  REQUIRE((both.before == Ids{1, 2, 1, 2} && both.after == Ids{3, 3} && both.pair.empty()));
}

TEST_CASE("what is put around two texts") {
  const auto ids_and_types = [](const reft::detail::PostProcessor& processor) {
    std::string text;
    for (const auto& piece : processor.pair) {
      text += piece.text >= 0 ? std::string(1, static_cast<char>('A' + piece.text)) : std::to_string(piece.ids.at(0));
      text += ":" + std::to_string(piece.type_id) + " ";
    }
    return text;
  };
  REQUIRE(ids_and_types(made(R"({"type": "ByteLevel"})")) == "A:0 B:1 ");
  REQUIRE(ids_and_types(made(R"({"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]})")) == "1:0 A:0 2:0 B:1 2:1 ");
  REQUIRE(ids_and_types(made(R"({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]})")) ==
          "0:0 A:0 2:0 2:0 B:0 2:0 ");
  REQUIRE(ids_and_types(made(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A"}}], "special_tokens": {"e": {"ids": [3]}},
    "pair": [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "e", "type_id": 2}}, {"Sequence": {"id": "A", "type_id": 0}}]}]})")) ==
          "B:1 3:2 A:0 ");
}

TEST_CASE("malformed templates are refused") {
  const auto error = [](const char* json) { return reft::test::error_text([&] { made(json); }); };
  REQUIRE(error(R"({"type": "TemplateProcessing", "single": []})") ==
          "[reft::load_tokenizer] t.json: single: sequence A is missing");
  REQUIRE(error(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]})") ==
          "[reft::load_tokenizer] t.json: single[0]: expected sequence A, once");
  REQUIRE(error(R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}], "special_tokens": {}})") ==
          "[reft::load_tokenizer] t.json: special_tokens: \"x\" is missing");
  REQUIRE(error(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "pair": [{"Sequence": {"id": "A"}}]})") ==
          "[reft::load_tokenizer] t.json: pair: expected the sequences A and B, once each");
  REQUIRE(error(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}], "pair": [{"Sequence": {"id": "C"}}]})") ==
          "[reft::load_tokenizer] t.json: pair[0].Sequence.id: expected A or B, got \"C\"");
  REQUIRE(error(R"({"type": "BertProcessing", "cls": [1], "sep": ["a", 1]})") ==
          "[reft::load_tokenizer] t.json: cls: expected [token, id]");
}
