#include "reft/tokenizer/pipeline.hpp"

#include "support/catch.hpp"
#include "tokenizer/json_text.hpp"

using namespace reft::detail;
using Ids = std::vector<int64_t>;

namespace {

/// Words are their length; added tokens "<a>" and "<b>" (special), the first looked for in lower-cased text.
Pipeline lengths() {
  Pipeline pipeline;
  pipeline.normalizer = [](std::string text) { return lowercased(text); };
  pipeline.added_tokens =
      AddedTokens({{.id = 100, .content = "<a>"}, {.id = 101, .content = "<b>", .normalized = false, .special = true}},
                  pipeline.normalizer, "test");
  pipeline.pre_tokenizer = reft::test::from_json(R"({"type": "WhitespaceSplit"})",
                                                 [](const auto& node) { return make_pre_tokenizer(node); });
  pipeline.model = [](std::string_view word, std::vector<int64_t>& ids) { ids.push_back(std::ssize(word)); };
  return pipeline;
}

Ids encoded(const Pipeline& pipeline, std::string_view text) {
  Ids ids;
  encode_text(pipeline, text, ids);
  return ids;
}

}  // namespace

TEST_CASE("text passes the stages in order") {
  REQUIRE(encoded(lengths(), "ab cde<A> f<b>gh <B>") == Ids{2, 3, 100, 1, 101, 2, 3});
  REQUIRE(encoded(lengths(), "").empty());
  REQUIRE(encoded(lengths(), "\xFF") == Ids{3});  // U+FFFD
}

TEST_CASE("a text whose first character goes does not start with the next") {
  Pipeline pipeline = lengths();
  pipeline.pre_tokenizer = reft::test::from_json(R"({"type": "Metaspace", "prepend_scheme": "first", "replacement": "_"})",
                                                 [](const auto& node) { return make_pre_tokenizer(node); });
  REQUIRE(encoded(pipeline, "abc") == Ids{4});
  pipeline.normalizer = [](std::string text) { return text.substr(text.find_first_not_of('!') == text.npos ? text.size() : text.find_first_not_of('!')); };
  REQUIRE(encoded(pipeline, "!abc") == Ids{3});  // as `tokenizers` 0.22.2 does with Nmt and a control character
  REQUIRE(encoded(pipeline, "abc") == Ids{4});
}

TEST_CASE("words that come again have the same ids") {
  const std::string long_word(1000, 'x');
  REQUIRE(encoded(lengths(), "aa b aa " + long_word + " b " + long_word) == Ids{2, 1, 2, 1000, 1, 1000});
}

TEST_CASE("without a decoder tokens are joined by spaces, unknown ids are left out") {
  const Pipeline pipeline = lengths();
  REQUIRE(decode_ids(pipeline, Ids{100, 101, 5, -1, 100}, false) == "<a> <b> <a>");
  REQUIRE(decode_ids(pipeline, Ids{100, 101, 100}, true) == "<a> <a>");
}
