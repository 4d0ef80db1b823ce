#include "reft/tokenizer/jinja/lexer.hpp"

#include "support/catch.hpp"
#include "support/error_text.hpp"

using reft::detail::jinja::Lexer;
using reft::detail::jinja::TokenKind;
using reft::test::error_text;

namespace {

/// Only the text outside of tags, each tag as a bar.
std::string data_of(std::string_view source) {
  std::string text;
  for (const auto& token : Lexer(source).tokens()) {
    if (token.kind == TokenKind::data) text += token.text;
    if (token.kind == TokenKind::variable_begin || token.kind == TokenKind::block_begin) text += '|';
  }
  return text;
}

}  // namespace

TEST_CASE("blocks and comments take the blanks before them on their line and one line break after") {
  REQUIRE(data_of("a\n  {% x %}\nb") == "a\n|b");
  REQUIRE(data_of("a\n  {# c #}\nb") == "a\nb");
  REQUIRE(data_of("a  {% x %}  \nb") == "a  |  \nb");
  REQUIRE(data_of("  {% x %}{% y %}\n\nb") == "||\nb");
  REQUIRE(data_of("a\n  {{ x }}\nb") == "a\n  |\nb");
  REQUIRE(data_of("{% x %}\n  {% y %}") == "||");
}

TEST_CASE("minus takes all white space on its side and plus none") {
  REQUIRE(data_of("a \n {%- x -%} \n b") == "a|b");
  REQUIRE(data_of("a \n {{- x -}} \n b") == "a|b");
  REQUIRE(data_of("a \n {#- x -#} \n b") == "ab");
  REQUIRE(data_of("a\n  {%+ x +%}\nb") == "a\n  |\nb");
}

TEST_CASE("line breaks are one character, and the last of a template goes") {
  REQUIRE(data_of("a\r\nb\rc\n\n") == "a\nb\nc\n");
}

TEST_CASE("raw blocks are text") {
  REQUIRE(data_of("{% raw %}{{ a }}{%- endraw %}\nb") == "{{ a }}b");
  REQUIRE(data_of("{%- raw -%} {% if %} {% endraw %}") == "{% if %} ");
}

TEST_CASE("tokens know their lines") {
  const auto tokens = Lexer("a\n{{ b\n + 'c' }}\n{# \n #}{{ d }}").tokens();
  std::vector<std::pair<std::string, int>> words;
  for (const auto& token : tokens) {
    if (token.kind == TokenKind::name || token.kind == TokenKind::text) words.emplace_back(token.text, token.line);
  }
  REQUIRE(words == std::vector<std::pair<std::string, int>>{{"b", 2}, {"c", 3}, {"d", 5}});
}

TEST_CASE("brackets hide the end of a tag") {
  const auto tokens = Lexer("{{ {'a': {}} }}b").tokens();
  REQUIRE(tokens[tokens.size() - 2].text == "b");
}

TEST_CASE("malformed templates are refused with their line") {
  const auto error = [](const char* source) { return error_text([&] { Lexer(source).tokens(); }); };
  REQUIRE(error("a\n{{ b") == "[reft::ChatTemplate] line 2: a tag has no end; expected \"}}\"");
  REQUIRE(error("{{ 'b }}") == "[reft::ChatTemplate] line 1: a text has no end; expected '");
  REQUIRE(error("{# b") == "[reft::ChatTemplate] line 1: a comment has no end");
  REQUIRE(error("{% raw %} b") == "[reft::ChatTemplate] line 1: a raw block has no end");
  REQUIRE(error("{{ (] }}") == "[reft::ChatTemplate] line 1: unexpected \"]\"");
  REQUIRE(error("{{ a $ }}") == "[reft::ChatTemplate] line 1: unexpected character \"$\"");
  REQUIRE(error(R"({{ "\xg1" }})") == "[reft::ChatTemplate] line 1: expected 2 hexadecimal digits in a text");
  REQUIRE(error(R"({{ "\ud800" }})") == "[reft::ChatTemplate] line 1: U+d800 is no character");
}
